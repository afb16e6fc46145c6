//! What tests of the objects share.

use super::{Defaults, Owner, Shape};

/// A cluster called `orders`.
pub(crate) fn owner() -> Owner {
    Owner { name: "orders".into(), namespace: "shop".into(), uid: "0b1f2a7e".into() }
}

pub(crate) fn defaults() -> Defaults {
    Defaults {
        cluster_domain: "cluster.local".into(),
        node_image: "registry:1".into(),
        operator_namespace: "registry-system".into(),
    }
}

pub(crate) fn shape() -> Shape {
    Shape { replicas: 3, volume_size: "10Gi".into(), default_image: "registry:1".into(), restarted_at: None }
}
