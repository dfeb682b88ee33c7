"""A PostgreSQL and a PgBouncer of our own, on free ports, as a user without rights."""

import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import time

PATIENCE_S = 60


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def unprivileged(command):
    """The command, as `postgres` when this is root: the servers refuse to run as root."""
    if os.getuid() != 0:
        return command
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *command]


def hand_over(path):
    if os.getuid() == 0:
        shutil.chown(path, "postgres", "postgres")


def newest_postgres():
    versions = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not versions:
        raise SystemExit("PostgreSQL is missing: apt-get install postgresql")
    return versions[-1]


def psql(port, database, statement):
    """The rows of an answer, as dictionaries."""
    command = ["psql", "-X", "-A", "-F", "\t", "-P", "footer=off", "-h", "127.0.0.1", "-p", str(port)]
    command += ["-U", "lab", "-d", database, "-c", statement]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return [dict(zip(lines[0], line)) for line in lines[1:]] if lines else []


def until_answers(port, database, statement):
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return psql(port, database, statement)
        except RuntimeError as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"no answer at port {port}: {error}") from error
            time.sleep(0.1)


class Servers:
    """Pools by name, each of the same database; `set_pool` changes one while clients stay connected."""

    def __init__(self, folder, pools):
        self.folder, self.pools = folder, dict(pools)
        self.postgres_port, self.port = free_port(), free_port()
        folder.mkdir(parents=True)
        hand_over(folder)
        programs = newest_postgres()
        made = [programs / "initdb", "--auth=trust", "--username=lab", "--no-sync", "--pgdata", folder / "data"]
        subprocess.run(unprivileged(list(map(str, made))), check=True, stdout=subprocess.DEVNULL)
        command = [programs / "postgres", "-D", folder / "data", "-p", self.postgres_port, "-k", ""]
        for setting in ("listen_addresses=127.0.0.1", "fsync=off", "max_connections=400"):
            command += ["-c", setting]
        self.running = []
        self.start(command, "postgres.log")
        until_answers(self.postgres_port, "postgres", "SELECT 1")
        (folder / "users.txt").write_text('"lab" ""\n')
        hand_over(folder / "users.txt")
        (folder / "pgbouncer.ini").write_text(
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = trust\n"
            f"auth_file = {folder}/users.txt\nadmin_users = lab\n"
            f"pool_mode = transaction\nmax_client_conn = 5000\nserver_idle_timeout = 1\nquery_wait_timeout = 0\n"
            f"log_connections = 0\nlog_disconnections = 0\n%include {folder}/databases.ini\n"
        )
        self.write()
        self.start(["/usr/sbin/pgbouncer", "-q", folder / "pgbouncer.ini"], "pgbouncer.log")
        until_answers(self.port, "pgbouncer", "SHOW VERSION")

    def start(self, command, log):
        with open(self.folder / log, "w") as output:
            hand_over(self.folder / log)
            started = subprocess.Popen(unprivileged(list(map(str, command))), stdout=output, stderr=output)
        self.running.append(started)

    def write(self):
        lines = [f"{name} = host=127.0.0.1 port={self.postgres_port} dbname=postgres user=lab pool_size={size}"
                 for name, size in self.pools.items()]  # fmt: skip
        (self.folder / "databases.ini").write_text("\n".join(["[databases]", *lines, ""]))
        hand_over(self.folder / "databases.ini")

    def set_pool(self, name, size):
        if self.pools[name] == size:
            return
        self.pools[name] = size
        self.write()
        psql(self.port, "pgbouncer", "RELOAD")

    def shown(self):
        """Waiting clients, and server connections that are open, by pool."""
        rows = {row["database"]: row for row in psql(self.port, "pgbouncer", "SHOW POOLS")}
        seen = {}
        for name in self.pools:
            row = rows.get(name, {})
            count = lambda column: int(row.get(column, 0))  # noqa: E731
            seen[name] = (count("cl_waiting"), count("sv_active") + count("sv_idle") + count("sv_used"))
        return seen

    def stop(self):
        for process in reversed(self.running):
            process.terminate()
            process.wait()
