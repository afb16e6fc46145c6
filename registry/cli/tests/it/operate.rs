//! `drain`, `state`, `override`, `protection`.

use registry_proto::v1::ErrorReason;

use crate::mock::{Manners, Mock};
use crate::program::registryctl;

#[tokio::test]
async fn a_drain_tells_by_its_code_whether_everybody_has_heard() {
    let mock = Mock::start().await;
    let ended = registryctl(mock.endpoint(), &["drain", "orders", "127.0.0.1:7001"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.out, "DRAINING since revision 6, complete: nobody watches\n");
    assert_eq!(ended.err, "");

    mock.change(|manners| manners.silent_node = Some("registry-node-3".into()));
    let ended = registryctl(mock.endpoint(), &["drain", "--lease", "0x1"]).await;
    assert_eq!(ended.code, 7, "{ended:?}");
    assert_eq!(ended.out, "DRAINING since revision 6, incomplete: 0 of 0 watchers told\n");
    assert!(ended.err.starts_with("not asked, as they are silent: registry-node-3"), "{ended:?}");
    let ended = registryctl(mock.endpoint(), &["drain", "orders", "x", "-o", "json"]).await;
    let answer: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(answer["silentNodes"][0], "registry-node-3");
    assert_eq!((ended.code, ended.err.as_str()), (7, ""), "a program reads it in the answer");
}

#[tokio::test]
async fn what_operators_do_reaches_the_registry() {
    let mock = Mock::start().await;
    for (line, out, call) in [
        ("state orders x down", "changed 1 instance\n", "set DOWN"),
        (
            "override set orders x --state draining --weight 0 --ttl 1h",
            "override set: DRAINING, weight 0, ends when cleared\n",
            "override x DRAINING Some(0) for 3600 s",
        ),
        ("override clear orders x", "override cleared\n", "clear the override of x"),
        (
            "protection end orders",
            "protection ended for 2 instances\n",
            "end protection of \"orders\" everywhere false",
        ),
        (
            "protection end --all",
            "protection ended for 2 instances\n",
            "end protection of \"\" everywhere true",
        ),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ended = registryctl(mock.endpoint(), &words).await;
        assert_eq!((ended.code, ended.out.as_str()), (0, out), "{line}: {ended:?}");
        assert_eq!(mock.calls().last().unwrap(), call);
    }
    let listed = registryctl(mock.endpoint(), &["override", "list", "-o", "name"]).await;
    assert_eq!(listed.out, "default/orders/a\ndefault/orders/b\n");
}

#[tokio::test]
async fn a_refusal_names_what_was_tried() {
    let mock =
        Mock::with(Manners { refuse: Some(ErrorReason::InstanceNotFound), ..Manners::default() }).await;
    for (line, action) in [
        ("drain orders x", "drain orders/x"),
        ("state orders x up", "set the state of orders/x"),
        ("override set orders x --weight 1", "override orders/x"),
        ("override clear orders x", "clear the override of orders/x"),
        ("override list", "list overrides"),
        ("protection end -n shop", "end the protection of namespace shop"),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ended = registryctl(mock.endpoint(), &words).await;
        assert_eq!(ended.code, 3, "{line}: {ended:?}");
        let begin = format!("registryctl: cannot {action}: refused by the mock");
        assert!(ended.err.starts_with(&begin), "{line}: {ended:?}");
    }
}
