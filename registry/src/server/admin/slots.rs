//! Room for administrators, apart from all other work (P/O1).

use std::sync::Arc;

use registry_proto::internal::PeerErrorReason as R;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::Status;

use crate::error::peer::PeerError;
use crate::server::limits;

/// What is under way for administrators. A clone shares it.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    questions: Arc<Semaphore>,
    changes: Arc<Semaphore>,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            questions: Arc::new(Semaphore::new(limits::ADMIN_QUESTIONS)),
            changes: Arc::new(Semaphore::new(limits::ADMIN_CHANGES)),
        }
    }
}

impl Slots {
    /// A slot for a question, held for as long as it is answered.
    ///
    /// # Errors
    /// OVERLOADED after a while.
    pub(super) async fn question(&self) -> Result<OwnedSemaphorePermit, PeerError> {
        let slot = timeout(limits::ADMIN_QUESTION_WAIT, self.questions.clone().acquire_owned()).await;
        slot.ok().and_then(Result::ok).ok_or_else(|| overloaded(limits::ADMIN_QUESTIONS, "questions"))
    }

    /// Makes a change that goes on when its caller hangs up: half a change is worth nothing.
    ///
    /// # Errors
    /// OVERLOADED at once if too many are under way; what the change says.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, PeerError>> + Send + 'static,
    ) -> Result<T, Status> {
        let slot = self.changes.clone().try_acquire_owned();
        let slot = slot.map_err(|_| overloaded(limits::ADMIN_CHANGES, "changes"))?;
        let made = tokio::spawn(async move {
            let outcome = change.await;
            drop(slot);
            outcome
        });
        match made.await {
            Ok(outcome) => Ok(outcome?),
            Err(error) => Err(Status::internal(format!("the change ended by a bug: {error}"))),
        }
    }
}

fn overloaded(count: usize, what: &str) -> PeerError {
    PeerError::new(R::Overloaded, format!("{count} {what} of administrators are under way; try again"))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_that_wait_leave_room_for_questions() {
        let slots = Slots::default();
        for _ in 0..limits::ADMIN_CHANGES {
            let slots = slots.clone();
            tokio::spawn(async move { slots.change(pending::<Result<(), PeerError>>()).await });
        }
        tokio::task::yield_now().await;
        let refused = slots.change(async { Ok(()) }).await.unwrap_err();
        assert_eq!(PeerError::reason_of(&refused), Some(R::Overloaded));
        drop(slots.question().await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_beyond_the_bound_waits_for_its_turn() {
        let slots = Slots::default();
        let mut held: Vec<_> = Vec::new();
        for _ in 0..limits::ADMIN_QUESTIONS {
            held.push(slots.question().await.unwrap());
        }
        let late = tokio::spawn({
            let slots = slots.clone();
            async move { slots.question().await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!late.is_finished());
        held.pop();
        late.await.unwrap().unwrap();
        let _again = slots.question().await.unwrap();
        assert_eq!(slots.question().await.unwrap_err().reason(), R::Overloaded, "and not for ever");
    }

    #[tokio::test]
    async fn a_change_gives_its_slot_back_also_when_its_caller_has_hung_up() {
        let slots = Slots::default();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let change = async move {
            let _ = gone.await;
            Ok(())
        };
        assert!(timeout(std::time::Duration::from_millis(1), slots.change(change)).await.is_err());
        assert_eq!(slots.changes.available_permits(), limits::ADMIN_CHANGES - 1, "it goes on");
        go.send(()).unwrap();
        while slots.changes.available_permits() < limits::ADMIN_CHANGES {
            tokio::task::yield_now().await;
        }
    }
}
