use super::*;
use crate::testing::fake_api::FakeApi;

fn spec(holder: &str, renewed: i64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(20),
        renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
        ..LeaseSpec::default()
    }
}

#[test]
fn a_lease_that_is_missing_is_created_and_a_free_one_is_taken_at_once() {
    let now = Instant::now();
    assert_eq!(decide(None, "a", now), Decision::Create);
    let free = Seen::next(None, &spec("", 1), now);
    assert_eq!(decide(Some(&free), "a", now), Decision::Take);
}

#[test]
fn a_restarted_process_of_the_same_pod_goes_on_at_once() {
    let now = Instant::now();
    let ours = Seen::next(None, &spec("a", 1), now);
    assert_eq!(decide(Some(&ours), "a", now), Decision::Take);
}

#[test]
fn another_holder_is_waited_for_until_nothing_changed_for_the_duration() {
    let start = Instant::now();
    let mut seen = Some(Seen::next(None, &spec("b", 1), start));
    for second in [3, 10, 19] {
        let now = start + Duration::from_secs(second);
        seen = Some(Seen::next(seen, &spec("b", 1), now));
        assert_eq!(decide(seen.as_ref(), "a", now), Decision::Wait, "after {second} s");
    }
    let now = start + Duration::from_secs(20);
    assert_eq!(decide(seen.as_ref(), "a", now), Decision::Take);
    // A renewal begins the wait anew, however old its time is by our clock.
    let renewed = Seen::next(seen, &spec("b", 2), now);
    assert_eq!(decide(Some(&renewed), "a", now), Decision::Wait);
}

#[test]
fn times_have_exactly_six_fractional_digits() {
    let odd = Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap();
    let even = Timestamp::from_second(1_700_000_000).unwrap();
    let text = |time| serde_json::to_string(&taken(None, "a", time).renew_time).unwrap();
    assert_eq!(text(odd), "\"2023-11-14T22:13:20.123456Z\"");
    assert_eq!(text(even), "\"2023-11-14T22:13:20.000000Z\"");
}

#[test]
fn a_change_of_hands_is_counted_and_a_second_life_of_the_same_is_not() {
    let now = Timestamp::from_second(1).unwrap();
    let first = taken(None, "a", now);
    assert_eq!(first.lease_transitions, Some(0));
    assert_eq!(taken(Some(&first), "a", now).lease_transitions, Some(0));
    assert_eq!(taken(Some(&first), "b", now).lease_transitions, Some(1));
}

#[test]
fn the_holder_gives_up_before_another_may_take_over() {
    assert!(GIVE_UP_AFTER < DURATION);
    // One failure costs no lease.
    assert!(RENEW_EVERY + REQUEST_TIMEOUT + RETRY_EVERY < GIVE_UP_AFTER);
}

fn candidate(identity: &str) -> Candidate {
    let text = |text: &str| text.to_owned();
    Candidate { namespace: text("operators"), name: text("registry-operator"), identity: text(identity) }
}

async fn taken_by(api: &FakeApi, identity: &str) -> Option<Held> {
    let leases: Api<Lease> = Api::namespaced(api.client(), "operators");
    let lease = attempt(&leases, &candidate(identity), &mut None).await.unwrap()?;
    Some(Held { api: leases, candidate: candidate(identity), lease, renewed: Instant::now() })
}

#[tokio::test]
async fn one_of_two_holds_the_lease_until_it_gives_it_back() {
    let api = FakeApi::new();
    let mut held = taken_by(&api, "a").await.unwrap();
    assert!(taken_by(&api, "b").await.is_none());
    assert!(held.renew().await.is_ok());
    held.release().await;
    assert!(taken_by(&api, "b").await.is_some());
}

#[tokio::test]
async fn a_lease_that_another_took_is_lost_and_one_that_was_only_touched_is_not() {
    let api = FakeApi::new();
    let mut held = taken_by(&api, "a").await.unwrap();
    api.modify("leases", "registry-operator", |lease| {
        lease["metadata"]["labels"] = serde_json::json!({ "a": "b" })
    });
    assert!(matches!(held.renew().await, Err(RenewError::Changed)));
    assert!(held.renew().await.is_ok());
    api.modify("leases", "registry-operator", |lease| lease["spec"]["holderIdentity"] = "b".into());
    assert!(matches!(held.renew().await, Err(RenewError::Taken(holder)) if holder == "b"));
    api.remove("leases", "registry-operator");
    assert!(matches!(held.renew().await, Err(RenewError::Taken(_))));
}
