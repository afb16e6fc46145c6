use super::*;

fn text(metrics: &Metrics, view: &View) -> String {
    metrics.encode(view).unwrap()
}

#[test]
fn a_call_counts_once_with_method_and_code() {
    let metrics = Metrics::new();
    for code in [Code::Ok, Code::NotFound, Code::Cancelled] {
        metrics.ended("registry.v1.RegistryService/Register", code, Duration::from_millis(3));
    }
    let text = text(&metrics, &View::default());
    for code in ["OK", "NOT_FOUND", "CANCELLED"] {
        let labels = format!("method=\"registry.v1.RegistryService/Register\",code=\"{code}\"");
        let line = format!("registry_calls_total{{{labels}}} 1");
        assert!(text.contains(&line), "{line} not in {text}");
    }
    let count = "registry_call_duration_seconds_count{method=\"registry.v1.RegistryService/Register\"} 3";
    assert!(text.contains(count));
}

#[test]
fn a_scrape_shows_the_present_role_and_lags_only() {
    let metrics = Metrics::new();
    text(&metrics, &View { role: "leader", replication_lag: vec![(2, 7)], ..View::default() });
    let text = text(&metrics, &View { role: "follower", term: 4, ..View::default() });
    assert!(text.contains("registry_role{role=\"leader\"} 0"));
    assert!(text.contains("registry_role{role=\"follower\"} 1"));
    assert!(text.contains("registry_term 4"));
    assert!(!text.contains("raft_id=\"2\""));
}

#[test]
fn two_nodes_in_one_process_count_apart() {
    let (one, other) = (Metrics::new(), Metrics::new());
    one.election();
    assert!(text(&one, &View::default()).contains("registry_raft_elections_total 1"));
    assert!(text(&other, &View::default()).contains("registry_raft_elections_total 0"));
}
