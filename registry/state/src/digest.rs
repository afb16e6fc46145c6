//! The incremental hash of the state (P/O4).
/// Sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) u64);
impl crate::State {
    pub(crate) fn digest_of_whole(&self) -> u64 {
        self.digest.0
    }
}
