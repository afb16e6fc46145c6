//! What can be typed, and what it means.

use clap::Parser as _;
use registry_proto::v1;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    // The environment of the developer must not decide.
    let endpoints = if line.contains("--endpoints") { "" } else { " --endpoints 127.0.0.1:8080" };
    let (own, child) = line.split_once(" -- ").map_or((line, None), |(own, child)| (own, Some(child)));
    let mut words: Vec<String> = format!("{own}{endpoints}").split_whitespace().map(str::to_owned).collect();
    if let Some(child) = child {
        words.push("--".to_owned());
        words.extend(child.split_whitespace().map(str::to_owned));
    }
    Cli::try_parse_from(words)
}

fn command(line: &str) -> Command {
    parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).command
}

#[test]
fn the_description_of_the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn these_lines_are_accepted() {
    for line in [
        "register orders --host 127.0.0.1 --port 7001",
        "register orders --host ::1 --port 7001 --ttl 0 --weight 0 --zone a --metadata a=b --metadata c=",
        "register orders --host h --port 1 --tag a,b --tag c --named-port grpc=9000 --id x --state starting",
        "register orders --host h --port 65535 --incarnation 12 --lease 0x1f -n shop -o json",
        "register orders --host h --port 1 --keep --ttl 30s --timeout 500ms --no-color",
        "heartbeat orders --host h --port 1 --incarnation 3",
        "heartbeat orders --id h:1",
        "heartbeat --lease 0xffffffffffffffff",
        "deregister orders --id h:1 --by-operator",
        "deregister --lease 17",
        "services",
        "services ord -A --stale -o wide",
        "services --namespace shop",
        "discover orders --state up,draining --zone a,b --tag x --metadata k=v --id h:1 --exclude-protected",
        "discover orders --max-staleness 2s --min-revision 7:12",
        "discover orders --consistency linearizable-or-stale",
        "watch",
        "watch orders --from 17 --changes-only",
        "watch --all --bookmarks 2s -o yaml",
        "watch --namespace shop --count 0",
        "status --local",
        "members -o name",
        "run --service orders --port 7001 -- ./server --flag value",
        "run --service orders --port 7001 --start-timeout 5s --drain-timeout 0 --stop-timeout 1min -- true",
        "drain orders h:1 --wait 0",
        "drain orders h:1 -n shop --by-operator --incarnation 3",
        "drain --lease 0x1f -o json",
        "state orders h:1 down --incarnation 3",
        "override set orders h:1 --state draining --weight 0 --ttl 1h --comment racks --actor ada",
        "override set orders h:1 -n shop --weight 7",
        "override clear orders h:1",
        "override list",
        "override list orders --stale -o wide",
        "override list -A",
        "protection end orders",
        "protection end orders -n shop",
        "protection end --namespace shop",
        "protection end --all",
        "completion zsh",
        "member list",
        "member add d 127.0.0.1:9083 --wait 0 --admin-token-file /t",
        "member remove a 2 --yes",
        "member promote d 5 --replacing a --max-lag 5",
        "member transfer-leader",
        "member transfer-leader b",
        "settings get quotas guard.percent -o wide",
        "settings set default_ttl=90s history.bytes=1MiB --expected-version 3",
        "--endpoints a:1,b:2 -o json status",
    ] {
        command(line);
    }
}

#[test]
fn these_lines_are_refused_with_the_words_that_help() {
    for (line, words) in [
        ("register orders --host h", "--port"),
        ("register orders --host h --port 0", "1..=65535"),
        ("register orders --host h --port 65536", "1..=65535"),
        ("register orders --host h --port 1 --weight 65536", "0..=65535"),
        ("register orders --host h --port 1 --ttl soon", "500ms, 5s, 2min"),
        ("register orders --host h --port 1 --ttl=-5s", "cannot be negative"),
        ("register orders --host h --port 1 --metadata novalue", "KEY=VALUE"),
        ("register orders --host h --port 1 --named-port grpc=0", "not a port"),
        ("register orders --host h --port 1 --lease 0", "as register prints it"),
        ("register orders --host h --port 1 --keep --lease 0x1", "cannot be used with"),
        ("heartbeat", "required"),
        ("member remove", "required"),
        ("member add d", "ENDPOINT"),
        ("member add d 9083", "HOST:PORT"),
        ("settings set", "required"),
        ("settings set default_ttl", "KEY=VALUE"),
        ("heartbeat orders", "--host"),
        ("heartbeat orders --host h", "--port"),
        ("heartbeat orders --lease 0x1", "cannot be used with"),
        ("heartbeat orders --id x --host h --port 1", "cannot be used with"),
        ("discover", "required"),
        ("discover orders --stale --consistency stale", "cannot be used with"),
        ("discover orders --state gone", "possible values: starting, up, draining, down"),
        ("discover orders --max-staleness 0", "longer than 0"),
        ("watch orders --all", "cannot be used with"),
        ("watch --from yesterday", "EPOCH:REVISION"),
        ("services -A -n shop", "cannot be used with"),
        ("run --service orders --port 1", "CMD"),
        ("status --endpoints nowhere", "HOST:PORT"),
        ("status --endpoints http://h:1", "without http://"),
        ("status --endpoints h:0", "1 to 65535"),
        ("status --endpoints ::1:80", "brackets"),
        ("status --timeout 0", "longer than 0"),
        ("status -o xml", "table, wide, json, yaml, name"),
        ("drain orders", "INSTANCE"),
        ("drain", "required"),
        ("drain orders h:1 --lease 0x1", "cannot be used with"),
        ("drain --lease 0x1 --by-operator", "cannot be used with"),
        ("drain orders h:1 --wait soon", "500ms, 5s, 2min"),
        ("state orders h:1", "STATE"),
        ("state orders h:1 gone", "possible values: starting, up, draining, down"),
        ("override set orders h:1", "--state"),
        ("override set orders h:1 --weight 65536", "0..=65535"),
        ("override clear orders", "INSTANCE"),
        ("override list orders -A", "cannot be used with"),
        ("protection end", "required"),
        ("protection end orders --all", "cannot be used with"),
    ] {
        let error = parse(line).expect_err(line).to_string();
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn three_words_are_enough_to_register() {
    let Command::Register(args) = command("register orders --host 127.0.0.1 --port 7001") else { panic!() };
    let expected = v1::ServiceRegisterRequest {
        service_name: "orders".into(),
        host: "127.0.0.1".into(),
        port: 7001,
        ..Default::default()
    };
    assert_eq!(args.content.request(&args.service, &args.host, args.port), expected);
    assert!(args.state.is_none() && args.lease.is_none() && !args.keep);
}

#[test]
fn everything_about_an_instance_reaches_the_request() {
    let line = "register orders --host h --port 1 -n shop --id x --ttl 1500ms --weight 7 --zone a --metadata \
                k=v=w --tag t,u --named-port grpc=9000 --incarnation 12";
    let Command::Register(args) = command(line) else { panic!() };
    let request = args.content.request(&args.service, &args.host, args.port);
    let expected = v1::ServiceRegisterRequest {
        service_name: "orders".into(),
        host: "h".into(),
        port: 1,
        namespace: "shop".into(),
        instance_id: "x".into(),
        incarnation: 12,
        ttl: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
        weight: Some(7),
        zone: "a".into(),
        metadata: [("k".to_owned(), "v=w".to_owned())].into(),
        tags: vec!["t".into(), "u".into()],
        ports: [("grpc".to_owned(), v1::Port { port: 9000 })].into(),
        ..Default::default()
    };
    assert_eq!(request, expected);
}

#[test]
fn consistency_follows_from_what_was_given() {
    for (flags, level) in [
        ("", v1::Consistency::Linearizable),
        ("--stale", v1::Consistency::Stale),
        ("--max-staleness 1s", v1::Consistency::Stale),
        ("--max-staleness 1s --consistency linearizable-or-stale", v1::Consistency::LinearizableOrStale),
        ("--consistency linearizable", v1::Consistency::Linearizable),
    ] {
        let Command::Discover(args) = command(&format!("discover orders {flags}")) else { panic!() };
        assert_eq!(args.freshness.level(), level, "{flags}");
    }
}

#[test]
fn no_filter_is_sent_unless_one_was_given() {
    let Command::Discover(args) = command("discover orders") else { panic!() };
    assert_eq!(args.filter.message(), None);
    let Command::Discover(args) = command("discover orders --state up --exclude-protected") else { panic!() };
    let filter = args.filter.message().unwrap();
    assert_eq!(filter.states, [v1::InstanceState::Up as i32]);
    assert!(filter.exclude_protected);
}

#[test]
fn times_are_read_as_people_write_them() {
    for (text, ms) in [
        ("0", 0),
        ("5", 5_000),
        ("500ms", 500),
        ("1.5s", 1_500),
        ("2min", 120_000),
        ("2m", 120_000),
        ("1h30m", 5_400_000),
    ] {
        assert_eq!(value::duration(text).map(|time| time.as_millis()), Ok(ms), "{text}");
    }
}

#[test]
fn a_lease_is_read_as_it_is_printed() {
    let lease = LeaseId(0x0123_4567_89ab_cdef);
    assert_eq!(lease.to_string(), "0x0123456789abcdef");
    assert_eq!(lease.to_string().parse(), Ok(lease));
    assert_eq!(lease.0.to_string().parse(), Ok(lease));
}

#[test]
fn a_position_may_name_its_epoch() {
    assert_eq!("17".parse(), Ok(Start { epoch: None, revision: 17 }));
    assert_eq!("9:17".parse(), Ok(Start { epoch: Some(9), revision: 17 }));
}

#[test]
fn the_program_and_its_flags_are_left_alone() {
    let Command::Run(args) = command("run --service s --port 1 -- sh -c --timeout 5") else { panic!() };
    assert_eq!(args.command, ["sh", "-c", "--timeout", "5"]);
}

#[test]
fn usage_names_the_program_as_it_was_called() {
    let help = |name: &'static str, arguments: &[&str]| {
        Cli::described_as(name).try_get_matches_from(arguments).unwrap_err().to_string()
    };
    assert!(help("registry ctl", &["--help"]).contains("Usage: registry ctl [OPTIONS] <COMMAND>"));
    assert!(help("registry ctl", &["run", "--help"]).contains("Usage: registry ctl run [OPTIONS]"));
    assert!(help("registryctl", &["discover"]).contains("Usage: registryctl discover"));
}
