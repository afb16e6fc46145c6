//! The reasons of each condition: a closed list, because people and their alerts rely on the words.
//!
//! A reason has one truth value: who finds the reason needs no second decision. All of them are explained in
//! `docs/operations-kubernetes.md`.

use std::fmt::Debug;

/// Truth of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

impl Truth {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Why a condition is as it is.
pub trait Reason: Copy + Debug + PartialEq + 'static {
    /// Type of the condition that these are reasons of.
    const CONDITION: &'static str;
    /// All of them.
    const ALL: &'static [Self];
    /// The word in the status: stable from release to release.
    fn as_str(self) -> &'static str;
    /// What it means for the condition.
    fn truth(self) -> Truth;
}

macro_rules! reasons {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $reason:ident = $truth:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$meaning])* $reason,)+ }

        impl Reason for $name {
            const CONDITION: &'static str = stringify!($name);
            const ALL: &'static [Self] = &[$(Self::$reason,)+];
            fn as_str(self) -> &'static str {
                match self { $(Self::$reason => stringify!($reason),)+ }
            }
            fn truth(self) -> Truth {
                match self { $(Self::$reason => Truth::$truth,)+ }
            }
        }
    };
}

reasons! {
    /// Whether clients can write.
    Available {
        /// A leader hears a majority, and one more voter may fail (or there is only one voter).
        QuorumHealthy = True,
        /// A leader hears a majority; the next failure of a voter would stop writes.
        QuorumAtRisk = True,
        /// A majority of the voters does not answer or there is no leader: no writes, stale reads only.
        QuorumLost = False,
        /// The cluster has not been founded yet.
        NotBootstrapped = False,
        /// No member answers the operator, which may be the operator's own trouble.
        Unreachable = Unknown,
    }
}

reasons! {
    /// Whether the operator is changing something. False and not Idle: it wants to, and cannot.
    Progressing {
        /// Everything is as the spec says.
        Idle = False,
        /// The first pods are starting, or the cluster is being founded.
        Bootstrapping = True,
        /// Members are being added.
        ScalingUp = True,
        /// Members are being removed.
        ScalingDown = True,
        /// Pods are being replaced one after the other: a new image, new configuration, or a restart asked for.
        RollingUpdate = True,
        /// A member that lost its disk, or has a dead one, gets a new one.
        ReplacingDisk = True,
        /// Volumes are growing.
        GrowingStorage = True,
        /// Settings of the running cluster are being changed, without a restart.
        UpdatingSettings = True,
        /// Objects were missing or differed, and are being made anew.
        ApplyingObjects = True,
        /// Members come back by themselves; nothing is changed meanwhile.
        WaitingForMembers = True,
        /// The object is being deleted.
        Deleting = True,
        /// The next step would endanger the quorum or data: the message names what is waited for.
        Blocked = False,
        /// There was no progress for `update.progressDeadlineSeconds`. The operator goes on trying.
        DeadlineExceeded = False,
        /// Kubernetes refuses to make a pod or a claim: quota, Pod Security, a missing priority class.
        FailedCreate = False,
        /// An image cannot be pulled.
        ImagePull = False,
        /// A new pod exits again and again.
        CrashLoop = False,
        /// No node has room for a pod, or its volume belongs to a node that is gone.
        Unschedulable = False,
        /// An object of a needed name exists and belongs to somebody else.
        NameConflict = False,
        /// The spec breaks a rule that is newer than the object.
        InvalidSpec = False,
        /// The spec says so.
        Paused = False,
        /// What would have to be done cannot be told, because no member answers.
        Unreachable = Unknown,
    }
}

reasons! {
    /// Whether something is wrong, though the cluster may serve. The worst is the reason, the message has all.
    Degraded {
        /// Nothing is wrong.
        AsExpected = False,
        /// A disk belongs to another registry cluster.
        ForeignDisk = True,
        /// A member refuses to run: damaged data, or data of a newer version.
        MemberQuarantined = True,
        /// A member's disk is lost or was never its own.
        DiskLost = True,
        /// The Kubernetes node of a member does not answer.
        NodeUnreachable = True,
        /// A member does not answer.
        MemberDown = True,
        /// A member runs, and is not ready or far behind.
        MemberNotReady = True,
        /// A volume is full: registrations are refused if a majority's is.
        DiskFull = True,
        /// A second disruption budget selects the pods: evictions fail with an error.
        ForeignDisruptionBudget = True,
        /// An object of a needed name exists and belongs to somebody else.
        NameConflict = True,
        /// The storage class does not allow volumes to grow.
        StorageClassCannotGrow = True,
        /// Which members are well cannot be told.
        Unreachable = Unknown,
    }
}

reasons! {
    /// Whether pods run with another template than this operator would give them. They are not restarted for
    /// that alone: it reaches them with the next roll.
    UpgradePending {
        /// All pods are as this operator makes them.
        UpToDate = False,
        /// This operator renders the template differently.
        TemplateChanged = True,
        /// `image` is unset, and the operator has another default than the pods run.
        ImageChanged = True,
    }
}

reasons! {
    /// Whether the operator leaves the cluster alone.
    Paused {
        /// It does its work.
        Active = False,
        /// `spec.paused` is true.
        PausedBySpec = True,
    }
}
