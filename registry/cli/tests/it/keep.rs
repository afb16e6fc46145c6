//! `register --keep`

use registry_proto::v1::ErrorReason;
use rustix::process::Signal;

use crate::mock::Mock;
use crate::program::Program;

const KEEP: [&str; 9] =
    ["register", "orders", "--host", "127.0.0.1", "--port", "7001", "--keep", "--ttl", "1s"];

#[tokio::test]
async fn a_registration_is_held_until_the_signal_and_removed_then() {
    for signal in [Signal::INT, Signal::TERM] {
        let mock = Mock::start().await;
        let mut program = Program::start(mock.endpoint(), &KEEP);
        let line = program.line().await;
        assert!(line.starts_with("registered orders/127.0.0.1:7001, incarnation 5"), "{line}");
        program.signal(signal);
        let ended = program.ended().await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(mock.calls(), ["register orders/127.0.0.1:7001 UP", "deregister"]);
    }
}

#[tokio::test]
async fn who_is_replaced_ends_and_says_so() {
    let mock = Mock::start().await;
    let mut program = Program::start(mock.endpoint(), &KEEP);
    program.line().await;
    // Renewals say that the lease is lost, the registration that follows that another owner is there.
    mock.change(|manners| manners.refuse = Some(ErrorReason::StaleIncarnation));
    let ended = program.ended().await;
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.err.contains("STALE_INCARNATION"), "{ended:?}");
}
