//! What is wrong with a configuration is said at once, all of it.

use headroom_actuator::ActuatorConfig;

#[test]
fn every_mistake_is_named_at_once() {
    let config: ActuatorConfig = toml::from_str(
        r#"
        [workloads]
        shop.target = "pool"
        bank.target = "pool"
        club.target = "pol"
        one.target = "hook"
        two.target = "hook"

        [targets.pool]
        kind = "pgbouncer"
        database = ""
        per_unit = 0
        console = { host = "", port = 6432, user = "a", password = { file = "a", env = "b" }, tls = "off", ca_file = "c" }

        [targets.memory]
        kind = "postgres"
        setting = "Work Mem"
        suffix = "MiB"
        timeout = "1s"
        server = { host = "db", port = 0, user = "a" }

        [targets.hook]
        kind = "webhook"
        url = "http://ann:secret@example.org/"
        secret = {}

        [targets."odd/name"]
        kind = "exec"
        program = ""
        settle = "0s"

        [targets.fleet]
        kind = "git"
        repository = "https://ann:secret@example.org/fleet.git"
        branch = "--force"
        file = "../shop.yaml"
        path = []
        author = "a <b>"
        "#,
    )
    .expect("the types are right");
    let problems = config.problems();
    for expected in [
        "targets.pool: `per_unit`",
        "targets.pool: console: name its",
        "targets.pool: console: password: name `file` or `env`, not both",
        "targets.pool: console: `ca_file` is of no use",
        "targets.pool: `database` is empty",
        "targets.pool: it is one value, and bank, shop would each set it",
        "workloads.club: no target `pol` among `targets`: fleet, hook, memory, odd/name, pool",
        "targets.memory: `settle` must be positive and shorter than `timeout`",
        "targets.memory: server: name its",
        "targets.memory: `setting`: `Work Mem`",
        "targets.memory: `suffix`: `MiB`",
        "targets.hook: secret: name its `file` or `env`",
        "targets.hook: `url`: it must not hold a password",
        "targets.hook: `url`: it must be https",
        "targets.odd/name: a name has letters",
        "targets.odd/name: `program` is empty",
        "targets.odd/name: `settle` must be positive",
        "targets.fleet: `branch` is empty, or begins with a dash",
        "targets.fleet: `repository`: it must not hold a password",
        "targets.fleet: `file`: write it from the root",
        "targets.fleet: `path` is empty",
        "targets.fleet: `author` and `email`",
    ] {
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected}: {problems:#?}");
    }
    assert_eq!(problems.len(), 22, "{problems:#?}");
    assert!(problems.iter().all(|problem| !problem.contains("secret@")), "{problems:#?}");
}

#[test]
fn what_nobody_knows_is_refused() {
    for text in [
        "[targets.a]\nkind = \"nothing\"",
        "[targets.a]\ndatabase = \"shop\"",
        "[targets.a]\nkind = \"exec\"\nprogram = \"a\"\nprogramme = \"b\"",
        "[targets.a]\nkind = \"exec\"\nprogram = \"a\"\nsecret = { fil = \"b\" }",
        "[workloads.shop]\ntarget = \"a\"\ntargets = \"b\"",
    ] {
        assert!(toml::from_str::<ActuatorConfig>(text).is_err(), "{text}");
    }
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let mut config: ActuatorConfig = toml::from_str(
        r#"
        policy_file = "1"
        [targets.pool]
        kind = "pgbouncer"
        database = "shop"
        ini = "2"
        console = { host = "db", port = 6432, user = "a", password = { file = "3" }, ca_file = "4" }
        [targets.script]
        kind = "exec"
        program = "bin/5"
        secret = { file = "6" }
        [targets.in-path]
        kind = "exec"
        program = "not-a-path"
        [targets.hook]
        kind = "webhook"
        url = "https://example.org"
        secret = { file = "7" }
        ca_file = "8"
        "#,
    )
    .expect("right");
    assert_eq!(config.problems(), Vec::<String>::new());
    let mut paths: Vec<String> = config.paths().into_iter().map(|path| path.display().to_string()).collect();
    paths.sort();
    assert_eq!(paths, ["1", "2", "3", "4", "6", "7", "8", "bin/5"]);
}
