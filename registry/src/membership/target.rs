//! How many voters to work towards after a change by hand (P/N7).

/// What a cluster may have: an even number needs as many answers as the next odd one.
pub(super) const COUNTS: [u32; 4] = [1, 3, 5, 7];

/// Whether so many may vote.
pub(super) fn is_valid(voters: usize) -> bool {
    COUNTS.iter().any(|count| *count as usize == voters)
}

/// The target when there are so many names of members: room for all of them, never less than before.
pub(super) fn raised(target: u32, names: usize) -> u32 {
    let room = COUNTS.into_iter().find(|count| *count as usize >= names).unwrap_or(7);
    room.max(target)
}

/// The target when so many members are left: no more than can be filled, never more than before.
pub(super) fn lowered(target: u32, members: usize) -> u32 {
    let filled = COUNTS.into_iter().rev().find(|count| *count as usize <= members).unwrap_or(1);
    filled.min(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_name_makes_room_and_one_that_is_known_makes_none() {
        assert_eq!(raised(3, 3), 3);
        assert_eq!(raised(3, 4), 5);
        assert_eq!(raised(5, 5), 5);
        assert_eq!(raised(5, 6), 7);
        assert_eq!(raised(7, 12), 7);
        assert_eq!(raised(5, 3), 5);
    }

    #[test]
    fn who_leaves_takes_its_room_along() {
        assert_eq!(lowered(5, 4), 3);
        assert_eq!(lowered(5, 3), 3);
        assert_eq!(lowered(3, 5), 3);
        assert_eq!(lowered(3, 0), 1);
    }
}
