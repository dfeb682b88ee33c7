//! The states of an action and the moves between them, in one table.

use headroom_proto::v1::ActionState;

/// A move that the table does not have.
#[derive(Debug, thiserror::Error)]
#[error("an action that is {from} cannot become {to}: {legal}")]
pub struct IllegalMove {
    from: String,
    to: String,
    legal: String,
}

/// The states that an action can move to.
#[must_use]
pub fn next_states(from: ActionState) -> &'static [ActionState] {
    use ActionState::{
        Applied, Approved, Expired, Failed, Holding, Intended, Paused, Proposed, Rejected, RolledBack, Superseded,
        Unspecified, Verified,
    };
    match from {
        Unspecified => &[Proposed],
        Proposed => &[Approved, Rejected, Expired, Paused, Superseded],
        Paused => &[Approved, Rejected, Expired, Superseded],
        Approved => &[Intended, Expired, Paused, Superseded],
        Intended => &[Applied, Failed],
        Applied => &[Holding, RolledBack, Failed],
        Holding => &[Verified, RolledBack, Failed, Superseded],
        Verified => &[RolledBack],
        Failed => &[RolledBack],
        // One that had its effect before a newer one came is undone with it; one that had none has ended.
        Superseded => &[RolledBack],
        Rejected | Expired | RolledBack => &[],
    }
}

/// Refuses a move that the table does not have.
///
/// # Errors
/// Names both states and the legal ones.
pub fn check(from: ActionState, to: ActionState) -> Result<(), IllegalMove> {
    let legal = next_states(from);
    if legal.contains(&to) {
        return Ok(());
    }
    let legal = if legal.is_empty() {
        "it has ended".to_owned()
    } else {
        let words: Vec<String> = legal.iter().map(|state| state_word(*state)).collect();
        format!("it can only become {}", words.join(", "))
    };
    Err(IllegalMove { from: state_word(from), to: state_word(to), legal })
}

/// A state in words: `rolled back`.
#[must_use]
pub fn state_word(state: ActionState) -> String {
    let name = state.as_str_name();
    name.strip_prefix("ACTION_STATE_").unwrap_or(name).to_ascii_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<ActionState> {
        (0..=12).map(|number| ActionState::try_from(number).expect("a state")).collect()
    }

    #[test]
    fn an_effect_has_an_intent_and_an_end_has_no_way_out() {
        for from in all() {
            for to in all() {
                let legal = check(from, to).is_ok();
                assert_eq!(legal, next_states(from).contains(&to), "{from:?} -> {to:?}");
                if to == ActionState::Applied {
                    assert_eq!(legal, from == ActionState::Intended);
                }
                if to == ActionState::Intended {
                    assert_eq!(legal, from == ActionState::Approved);
                }
            }
        }
        let error = check(ActionState::Rejected, ActionState::Applied).expect_err("ended").to_string();
        assert!(error.contains("rejected") && error.contains("ended"), "{error}");
    }

    #[test]
    fn every_state_can_be_reached_and_every_way_ends() {
        let mut reached = vec![ActionState::Unspecified];
        let mut at = 0;
        while let Some(state) = reached.get(at).copied() {
            for next in next_states(state) {
                if !reached.contains(next) {
                    reached.push(*next);
                }
            }
            at += 1;
        }
        assert_eq!(reached.len(), all().len());
    }
}
