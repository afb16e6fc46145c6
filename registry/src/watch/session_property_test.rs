//! A watch through anything that can happen to it.

use proptest::prelude::*;
use tokio::time::timeout;

use super::super::*;
use super::reader::Reader;
use super::{after, drain, service, snapshot};
use crate::server::convert::Scope;
use crate::testbed::{Testbed, register};

#[derive(Debug, Clone)]
enum Action {
    Register(u8, u8, u8),
    Deregister(u8, u8),
    Read(usize),
    Reconnect,
    Install,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..3_u8, 0..6_u8, 0..3_u8).prop_map(|(service, id, zone)| Action::Register(service, id, zone)),
        2 => (0..3_u8, 0..6_u8).prop_map(|(service, id)| Action::Deregister(service, id)),
        4 => (0..4_usize).prop_map(Action::Read),
        1 => Just(Action::Reconnect),
        1 => Just(Action::Install),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_happens_the_view_is_that_of_the_state_at_the_same_revision(
        actions in prop::collection::vec(action(), 1..120),
        history in 1_u64..40,
        which in 0..3_usize,
    ) {
        let scope = [service("s1"), Scope::Namespace("default".into()), Scope::All][which].clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let testbed = Testbed::new(history);
            let mut reader = Reader::default();
            let mut session = snapshot(&testbed, scope.clone());
            for action in actions {
                match action {
                    Action::Register(service, id, zone) => {
                        let service = if service == 2 { "other/s1".into() } else { format!("s{service}") };
                        testbed.apply(register(&service, &id.to_string(), 0, &format!("z{zone}")));
                    }
                    Action::Deregister(service, id) => testbed.deregister(&format!("s{service}"), &id.to_string()),
                    Action::Read(count) => {
                        for _ in 0..count {
                            match timeout(Duration::from_millis(1), session.next()).await {
                                Ok(message) => reader.read(message.unwrap().unwrap()),
                                Err(_) => break,
                            }
                            check(&reader, &testbed, &scope);
                        }
                    }
                    Action::Reconnect if reader.synced => {
                        reader.partial.clear();
                        reader.headed = false;
                        session = after(&testbed, scope.clone(), reader.revision);
                    }
                    Action::Reconnect => {}
                    Action::Install => testbed.install(testbed.state()),
                }
            }
            prop_assert!(drain(&mut session, &mut reader).await.is_none());
            check(&reader, &testbed, &scope);
            reader.agrees(&testbed.state(), &scope);
            Ok(())
        })?;
    }
}

/// Whenever the reader stands at a revision, its view is that of the state of then.
fn check(reader: &Reader, testbed: &Testbed, scope: &Scope) {
    if !reader.synced || !reader.partial.is_empty() {
        return;
    }
    let past = testbed.past.lock().unwrap();
    let then = past.iter().find(|state| state.revision() == reader.revision).expect("a revision that was");
    reader.agrees(then, scope);
}
