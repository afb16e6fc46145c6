use registry_state::Command;
use tokio::time::Instant;

use super::*;
use crate::lease::agreement::Agreement;
use crate::testbed::{REIGN, Testbed, founded, register};

const LEASES: usize = 20_000;

/// A leader with one service of many owners who were all heard just now; and the lease of one.
async fn large_service() -> (std::sync::Arc<Testbed>, u64) {
    let testbed = Testbed::new(100);
    let mut state = founded(42, 100);
    for number in 0..LEASES {
        let operation = register("a", &number.to_string(), 15_000, "");
        state.apply(&Command { proposed_at_unix_ms: 0, request: None, operation });
    }
    testbed.install(state);
    testbed.leases.establish(REIGN, Instant::now(), || Agreement::published(testbed.as_ref())).await;
    let first = testbed.state().leases().next().unwrap().id;
    (testbed, first)
}

#[tokio::test]
async fn a_large_service_is_counted_in_pieces_and_no_further_than_it_takes() {
    let (testbed, first) = large_service().await;
    let state = testbed.state();
    let mut recent = Recent::default();
    let mut examiner = Examiner::new(&testbed.leases, REIGN, &mut recent, Duration::ZERO);
    let due = || vec![Overdue { id: first, version: 1, late: Duration::ZERO, again: false }];
    let began = std::time::Instant::now();
    let mut pieces = 0;
    let sorted = {
        let mut sorting = std::pin::pin!(examiner.sort(&state, due()));
        loop {
            match futures::poll!(sorting.as_mut()) {
                std::task::Poll::Ready(sorted) => break sorted,
                std::task::Poll::Pending => pieces += 1,
            }
        }
    };
    println!("one silent lease among {LEASES}: looked at in {:?}", began.elapsed());
    assert_eq!((sorted.expire.len(), sorted.spare.len()), (1, 0));
    assert_eq!(pieces, LEASES / 2 / CHUNK + 1, "half of it alive is enough");
    // The verdict stands for the pass.
    assert_eq!(examiner.sort(&state, due()).await.expire.len(), 1);
}
