//! What is wrong with a configuration is said at once, all of it.

use headroom_actuator::ActuatorConfig;

/// What is wrong with it, beyond what this program was built without.
fn problems(config: &ActuatorConfig) -> Vec<String> {
    let (without, others): (Vec<String>, _) =
        config.problems().into_iter().partition(|problem| problem.contains("was built without AWS"));
    assert_eq!(without.is_empty(), cfg!(feature = "aws"), "{without:?}");
    others
}

#[test]
#[expect(clippy::too_many_lines, reason = "one list of mistakes")]
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

        [targets.pods]
        kind = "kubernetes"
        api_version = "apps/v1/x"
        resource = "Deployment"
        namespace = "prod/../kube-system"
        name = ""
        path = ["metadata", "0"]
        cluster = { context = "prod", token = { file = "a" } }

        [targets.cluster]
        kind = "kubernetes"
        api_version = "v1"
        resource = "things"
        namespace = "prod"
        name = "shop"
        cluster = { kubeconfig = "a", server = "http://kubernetes.example.org" }

        [targets.keda]
        kind = "keda"
        per_unit = 0

        [targets.readers]
        kind = "aws-readers"
        aws = { region = "eu central", credentials_file = "a" }
        cluster = "shop cluster"
        instance_class = "r8g.large"

        [targets.autoscaling]
        kind = "aws-scaling"
        aws = { region = "eu-central-1", endpoint = "http://aws.example.org" }
        service = "rds"
        resource = ""
        dimension = "ecs:service:DesiredCount"
        "#,
    )
    .expect("the types are right");
    let problems = problems(&config);
    for expected in [
        "targets.pool: `per_unit`",
        "targets.pool: console: name its",
        "targets.pool: console: password: name `file` or `env`, not both",
        "targets.pool: console: `ca_file` is of no use",
        "targets.pool: `database` is empty",
        "targets.pool: it is one value, and bank, shop would each set it",
        "workloads.club: no target `pol` among `targets`: autoscaling, cluster, fleet, hook, keda, memory",
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
        "targets.pods: cluster: `context` is one of a `kubeconfig`",
        "targets.pods: cluster: `ca_file` and `token` are for a `server`",
        "targets.pods: `namespace`: `prod/../kube-system` is no name",
        "targets.pods: `name`: `` is no name",
        "targets.pods: `resource`: `Deployment` is none: write the plural",
        "targets.pods: `api_version`: `apps/v1/x` is none",
        "targets.pods: `path` and `ready` have keys of mappings only",
        "targets.pods: `path` leads into `spec`",
        "targets.cluster: cluster: `kubeconfig` has `server`",
        "targets.cluster: cluster: `server`: it must be https",
        "targets.keda: `per_unit` must be positive",
        "targets.readers: aws: `region`: `eu central` is none",
        "targets.readers: aws: `credentials_file` has profiles",
        "targets.readers: `cluster`: `shop cluster` is no identifier",
        "targets.readers: `instance_class`: `r8g.large` is none",
        "targets.autoscaling: aws: `endpoint`: it must be https",
        "targets.autoscaling: name the `service`, `resource` and `dimension`",
        "targets.autoscaling: `dimension`: it begins with the service: `rds:..`",
    ] {
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected}: {problems:#?}");
    }
    assert_eq!(problems.len(), 40, "{problems:#?}");
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
        "[targets.a]\nkind = \"keda\"\nunits = 3",
        "[targets.a]\nkind = \"kubernetes\"\napi_version = \"v1\"\nresource = \"a\"\nnamespace = \"a\"",
        "[targets.a]\nkind = \"aws-serverless\"\ncluster = \"shop\"\naws = { regio = \"a\" }",
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
        [targets.pods]
        kind = "kubernetes"
        api_version = "apps/v1"
        resource = "deployments"
        namespace = "prod"
        name = "shop"
        cluster = { server = "https://kubernetes.example.org", ca_file = "9", token = { file = "a" } }
        [targets.readers]
        kind = "aws-readers"
        aws = { region = "eu-central-1", profile = "shop", credentials_file = "b" }
        cluster = "shop"
        instance_class = "db.serverless"
        "#,
    )
    .expect("right");
    assert_eq!(problems(&config), Vec::<String>::new());
    let mut paths: Vec<String> = config.paths().into_iter().map(|path| path.display().to_string()).collect();
    paths.sort();
    assert_eq!(paths, ["1", "2", "3", "4", "6", "7", "8", "9", "a", "b", "bin/5"]);
}
