//! Random commands against a naive model, and against damage.
//!
//! The model (`tests/model/`) is written from the rules in `docs/`, with plain maps, whole copies and
//! events found by comparing before and after.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and reads its files")]

#[path = "model/compare.rs"]
mod compare;
#[path = "model/dice.rs"]
mod dice;
#[path = "model/generate.rs"]
mod generate;
#[path = "model/naive.rs"]
mod naive;
#[path = "model/register.rs"]
mod register;
#[path = "model/rules.rs"]
mod rules;

use std::collections::BTreeMap;

use dice::Dice;
use naive::Model;
use proptest::prelude::*;
use registry_state::*;

/// Enough cases for every build; `PROPTEST_CASES=5000` looks harder.
fn config() -> ProptestConfig {
    const CASES: u32 = 64;
    let chosen = std::env::var_os("PROPTEST_CASES").is_some();
    let defaults = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if chosen { defaults } else { ProptestConfig { cases: CASES, ..defaults } }
}

/// A sequence of commands, each made of a few random bytes.
fn sequence(commands: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 48), 1..commands)
}

fn reloaded(state: &State) -> State {
    let mut decoder = StateDecoder::new();
    for record in state.records() {
        assert!(record.len() <= limits::SNAPSHOT_RECORD_BYTES);
        decoder.push(&record).unwrap();
    }
    decoder.finish().unwrap()
}

/// What a leader knows of leases from the changes alone.
type Deadlines = BTreeMap<u64, (u64, u32, LeaseHold)>;

fn follow(deadlines: &mut Deadlines, changes: &[LeaseChange]) {
    for change in changes {
        match *change {
            LeaseChange::Opened { id, version, ttl_ms } => {
                assert_eq!(deadlines.insert(id, (version, ttl_ms, LeaseHold::None)), None);
            }
            LeaseChange::Touched { id, version, ttl_ms } => {
                assert!(deadlines.insert(id, (version, ttl_ms, LeaseHold::None)).is_some());
            }
            LeaseChange::Held { id, version } => {
                let lease = deadlines.get_mut(&id).unwrap();
                *lease = (version, lease.1, LeaseHold::Held);
            }
            LeaseChange::Released { id, version } => {
                let lease = deadlines.get_mut(&id).unwrap();
                *lease = (version, lease.1, LeaseHold::Released);
            }
            LeaseChange::Closed { id } => assert!(deadlines.remove(&id).is_some()),
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_state_does_what_the_model_does(bytes in sequence(100)) {
        let mut state = State::default();
        let mut model = Model::default();
        let mut deadlines = Deadlines::new();
        for bytes in &bytes {
            let mut dice = Dice::new(bytes);
            let command = generate::command(&mut dice, &model);
            let before = state.clone();
            let applied = state.apply(&command);
            let expected = model.apply(&command);
            prop_assert_eq!(&applied.reply, &expected.reply, "{:?}", command);
            prop_assert_eq!(applied.revision, expected.revision, "{:?}", command);
            prop_assert_eq!(applied.replayed, expected.replayed);
            let events = applied.events.as_ref().map(|made| {
                assert_eq!(made.revision, state.revision());
                let mut events = made.events.clone();
                events.sort_by_key(|e| (e.instance.service.clone(), e.instance.instance_id.clone()));
                events
            });
            prop_assert_eq!(events, expected.events, "{:?}", command);
            follow(&mut deadlines, &applied.leases);
            let leases: Deadlines = state.leases().map(|l| (l.id, (l.version, l.ttl_ms, l.hold))).collect();
            prop_assert_eq!(&deadlines, &leases);
            state.check_invariants().map_err(TestCaseError::fail)?;
            model.compare(&state).map_err(TestCaseError::fail)?;
            if matches!(applied.reply, Reply::Rejected(_)) {
                prop_assert_eq!(before.revision(), state.revision());
            }
            // A frozen copy is not changed by what comes after.
            before.check_invariants().map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn a_state_from_a_snapshot_is_equal_and_goes_on_equally(bytes in sequence(80), cut in 0usize..80) {
        let mut state = State::default();
        let mut model = Model::default();
        let mut twin: Option<State> = None;
        for (at, bytes) in bytes.iter().enumerate() {
            let command = generate::command(&mut Dice::new(bytes), &model);
            model.apply(&command);
            let applied = state.apply(&command);
            if let Some(twin) = &mut twin {
                prop_assert_eq!(&twin.apply(&command), &applied);
            }
            if at == cut || at % 16 == 0 {
                let loaded = reloaded(&state);
                loaded.check_invariants().map_err(TestCaseError::fail)?;
                prop_assert!(loaded.records().eq(state.records()));
                twin = Some(loaded);
            }
            let twin_hash = twin.as_ref().map_or(state.state_hash(), State::state_hash);
            prop_assert_eq!(twin_hash, state.state_hash());
        }
    }

    #[test]
    fn commands_survive_encoding(bytes in sequence(20)) {
        let mut model = Model::default();
        for bytes in &bytes {
            let command = generate::command(&mut Dice::new(bytes), &model);
            let encoded = command.encode();
            prop_assert_eq!(encoded.len(), command.encoded_len());
            prop_assert_eq!(Command::decode(&encoded).unwrap(), command.clone());
            model.apply(&command);
        }
    }

    #[test]
    fn would_renew_is_right_about_what_the_log_would_do(bytes in sequence(60)) {
        let mut state = State::default();
        let model = &mut Model::default();
        for bytes in &bytes {
            let command = generate::command(&mut Dice::new(bytes), model);
            if let Operation::Register(Register { registration: Some(registration), .. }) = &command.operation
                && let Some(lease) = state.would_renew(registration, command.request.as_ref())
            {
                let applied = state.clone().apply(&command);
                let renewed = matches!(applied.reply,
                    Reply::Registered { outcome: RegisterOutcome::Renewed, lease_id, .. } if lease_id == lease);
                prop_assert!(renewed && applied.events.is_none() && !applied.replayed, "{:?}", applied);
            }
            state.apply(&command);
            model.apply(&command);
        }
    }

    #[test]
    fn no_command_breaks_the_state(bytes in sequence(60), noise in prop::collection::vec(any::<(u16, u8)>(), 60)) {
        let mut state = State::default();
        let mut model = Model::default();
        for (at, bytes) in bytes.iter().enumerate() {
            let mut dice = Dice::new(bytes);
            let wild = dice.roll(3) == 0;
            let mut command = generate::command(&mut dice, &model);
            model.apply(&command);
            if wild {
                // One byte of the encoding is another: whatever still decodes must be survived.
                let mut encoded = command.encode();
                let (place, value) = noise[at % noise.len()];
                let place = usize::from(place) % encoded.len();
                encoded[place] = value;
                let Ok(damaged) = Command::decode(&encoded) else { continue };
                command = damaged;
            }
            state.apply(&command);
            state.check_invariants().map_err(TestCaseError::fail)?;
        }
        reloaded(&state);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Command::decode(&bytes);
        let mut decoder = StateDecoder::new();
        let _ = decoder.push(&bytes);
        let _ = decoder.finish();
    }

    #[test]
    fn a_damaged_snapshot_is_refused_or_sound(bytes in sequence(40), place in any::<u32>(), value in any::<u8>()) {
        let mut state = State::default();
        let mut model = Model::default();
        for bytes in &bytes {
            let command = generate::command(&mut Dice::new(bytes), &model);
            model.apply(&command);
            state.apply(&command);
        }
        let mut records: Vec<_> = state.records().collect();
        let record = place as usize % records.len();
        let at = place as usize / records.len() % records[record].len();
        if records[record][at] == value {
            return Ok(());
        }
        records[record][at] = value;
        let mut decoder = StateDecoder::new();
        for record in &records {
            if decoder.push(record).is_err() {
                return Ok(());
            }
        }
        // What the hash cannot see are outcomes of clients and the events of the past.
        if let Ok(loaded) = decoder.finish() {
            prop_assert_eq!(loaded.state_hash(), state.state_hash());
        }
    }
}

/// The generator must reach every kind of answer and event, or the properties above say little.
#[test]
fn the_generated_world_reaches_everything() {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    // A linear congruential generator (Knuth's MMIX constants): the same bytes in every run.
    let mut random = 1u64;
    let mut byte = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 56) as u8
    };
    for _ in 0..80 {
        let mut state = State::default();
        let mut model = Model::default();
        for _ in 0..150 {
            let bytes: Vec<u8> = (0..48).map(|_| byte()).collect();
            let command = generate::command(&mut Dice::new(&bytes), &model);
            model.apply(&command);
            let applied = state.apply(&command);
            let name = |text: String| text.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
            let mut note = |what: String| *seen.entry(what).or_default() += 1;
            let replayed = if applied.replayed { "replayed " } else { "" };
            match &applied.reply {
                Reply::Rejected(rejection) => {
                    note(format!("{replayed}{}", name(format!("{:?}", rejection.reason))))
                }
                Reply::Registered { outcome, .. } => note(format!("{replayed}{outcome:?}")),
                reply => note(format!("{replayed}{}", name(format!("{reply:?}")))),
            }
            for event in applied.events.iter().flat_map(|made| &made.events) {
                note(format!("event {:?}", event.cause));
            }
            for change in &applied.leases {
                note(format!("lease {}", name(format!("{change:?}"))));
            }
        }
    }
    let expected = [
        "AlreadyInitialized BatchRegistered Created Deregistered Drained Expired GuardTicked Initialized",
        "InstanceNotFound InvalidField LeaseExpired MemberAdded MemberRemoved MembersRemoved MembershipOwned",
        "NotInitialized OverrideCleared OverrideSet OverridesEnded OverridesTicked Protected ProtectionEnded",
        "QuotaExceeded Renewed Replaced RequestIdReused RequestSuperseded SessionUnknown SettingsChanged",
        "SettingsUpdated StaleIncarnation StateSet Unprotected Updated",
    ];
    let replayed = "Created Renewed RegistrationGone Deregistered StateSet BatchRegistered QuotaExceeded";
    let causes = "Registered Replaced StateReported OverrideSet OverrideCleared OverrideExpired Protected Recovered \
                  Expired Deregistered Operator";
    let leases = "Opened Touched Held Released Closed";
    let wanted = expected
        .iter()
        .flat_map(|line| line.split_whitespace().map(str::to_owned))
        .chain(replayed.split_whitespace().map(|word| format!("replayed {word}")))
        .chain(causes.split_whitespace().map(|word| format!("event {word}")))
        .chain(leases.split_whitespace().map(|word| format!("lease {word}")));
    let missing: Vec<_> = wanted.filter(|what| seen.get(what).copied().unwrap_or(0) == 0).collect();
    assert!(missing.is_empty(), "never: {missing:?} of {seen:#?}");
}
