//! The settings file, and which place wins.

use crate::support::TestEnvironment;

#[test]
fn values_are_set_shown_and_taken_out() {
    let env = TestEnvironment::new();
    insta::assert_snapshot!(env.run("config set memory 4g"), @r"
    status: 0
    --- stdout
    --- stderr
    ");
    env.ok("config set cpus 3");
    env.ok("config set keep-context true");
    insta::assert_snapshot!(env.run("config view"), @r"
    status: 0
    --- stdout
    - cpus: 3
    - memory: 4g
    - keep-context: true
    --- stderr
    ");
    insta::assert_snapshot!(env.run("config view --format {{.ConfigKey}}={{.ConfigValue}}"), @r"
    status: 0
    --- stdout
    cpus=3
    memory=4g
    keep-context=true
    --- stderr
    ");
    insta::assert_snapshot!(env.run("config get memory"), @r"
    status: 0
    --- stdout
    4g
    --- stderr
    ");
    insta::assert_snapshot!(env.run("config unset memory"), @r"
    status: 0
    --- stdout
    --- stderr
    ");
    insta::assert_snapshot!(env.run("config get memory"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: specified key could not be found in config: `memory` is not set
    hint: set it with `sampan config set memory VALUE`
    ");
    let file = std::fs::read_to_string(env.layout().config_file()).unwrap();
    assert_eq!(file, "cpus = 3\nkeep-context = true\n");
}

#[test]
fn mistakes_are_refused_with_a_suggestion() {
    let env = TestEnvironment::new();
    insta::assert_snapshot!(env.run("config set memry 4g"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: unknown setting `memry`
    hint: did you mean `memory`?
    ");
    insta::assert_snapshot!(env.run("config set memory 4x"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `memory 4x` is not a size
    hint: write 4096, 4096mb or 4g
    ");
    insta::assert_snapshot!(env.run("config set driver qmeu"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: there is no driver `qmeu`
    hint: did you mean `qemu`?
    ");
    insta::assert_snapshot!(env.run("config set iso-url x"), @r"
    status: 16
    --- stdout
    --- stderr
    X Exiting due to MK_UNIMPLEMENTED: the setting `iso-url` of minikube is not there yet
    hint: `sampan config --help` lists the settings there are
    ");
    insta::assert_snapshot!(env.run("config view --format {{.Key}}"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: there is no field `.Key`
    hint: choose one of ConfigKey, ConfigValue
    ");
    assert!(!env.layout().config_file().exists());
}

#[test]
fn a_damaged_file_is_told_with_its_place_and_the_way_out() {
    let env = TestEnvironment::new();
    let file = env.layout().config_file();
    env.write(&file, "memory = much\n");
    insta::assert_snapshot!(env.run("start --dry-run"), @r"
    status: 38
    --- stdout
    --- stderr
    X Exiting due to HOST_CONFIG_LOAD: [DIR]/sampan/config/config.toml: is not TOML
      because: TOML parse error at line 1, column 10
          |
        1 | memory = much
          |          ^^^^
        string values must be quoted, expected literal string
    hint: correct the file, or move it away to go on with the defaults
    ");
    env.write(&file, "memry = \"4g\"\ncpus = 2\n");
    insta::assert_snapshot!(env.run("start --dry-run"), @r"
    status: 38
    --- stdout
    --- stderr
    X Exiting due to HOST_CONFIG_LOAD: [DIR]/sampan/config/config.toml: unknown setting `memry`
    hint: did you mean `memory`?
    ");
    env.ok("config unset memry");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "cpus = 2\n");
    env.write(&file, "cpus = \"many\"\n");
    insta::assert_snapshot!(env.run("start --dry-run"), @r#"
    status: 38
    --- stdout
    --- stderr
    X Exiting due to HOST_CONFIG_LOAD: [DIR]/sampan/config/config.toml: `cpus` = "many" is not a number
    hint: write 2, or max for all of the host's
    hint: or take the line out with `sampan config unset cpus`
    "#);
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_defaults() {
    let mut env = TestEnvironment::new();
    let plan = |env: &TestEnvironment, flags: &str| {
        let out = env.ok(&format!("start --dry-run --driver fake --memory 3g {flags}"));
        out.lines().next().unwrap().to_owned()
    };
    assert_eq!(
        plan(&env, ""),
        "making cluster \"sampan\": fake, 2 CPUs, 3072 MiB memory, 20000 MiB disk, Kubernetes v1.36.3"
    );
    env.ok("config set disk-size 10g");
    assert!(plan(&env, "").contains("10240 MiB disk"));
    env.set("SAMPAN_DISK_SIZE", "11g");
    assert!(plan(&env, "").contains("11264 MiB disk"));
    assert!(plan(&env, "--disk-size 12g").contains("12288 MiB disk"));

    env.set("SAMPAN_PROFILE", "from-env");
    assert!(plan(&env, "").contains("\"from-env\""));
    assert!(plan(&env, "-p flag").contains("\"flag\""));
    env.set("SAMPAN_CPUS", "x");
    insta::assert_snapshot!(env.run("start --dry-run"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `SAMPAN_CPUS=x` is not a number
    hint: write 2, or max for all of the host's
    ");
}
