//! How much Headroom may do by itself, for each workload and kind of action.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How much Headroom may do by itself; each stage includes what the ones before it do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Plans are recorded, with what would have become of them. Nobody is asked, nothing is done.
    Observe,
    /// Every action waits for a person.
    #[default]
    Recommend,
    /// What is of low risk and reversible is done.
    Automate,
    /// Larger changes are done as well.
    Expand,
}

impl Stage {
    /// The stage's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Recommend => "recommend",
            Self::Automate => "automate",
            Self::Expand => "expand",
        }
    }

    /// The stage of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Observe, Self::Recommend, Self::Automate, Self::Expand].into_iter().find(|stage| stage.name() == name)
    }

    /// Does it do anything without a person?
    #[must_use]
    pub fn acts(self) -> bool {
        self >= Self::Automate
    }
}

/// A kind of action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// More units, or as many.
    #[default]
    Raise,
    /// Fewer units.
    Release,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Raise, Self::Release];

    /// The kind of a change of units.
    #[must_use]
    pub fn of(before: u32, after: u32) -> Self {
        if after < before { Self::Release } else { Self::Raise }
    }

    /// The kind's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raise => "raise",
            Self::Release => "release",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The stage of each kind of action. In a file: `"automate"`, or `{ raise = "expand", release = "recommend" }`, where a
/// kind that is not named has the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageSetting {
    raise: Stage,
    release: Stage,
}

impl StageSetting {
    /// The stage of a kind of action.
    #[must_use]
    pub fn of(self, kind: Kind) -> Stage {
        match kind {
            Kind::Raise => self.raise,
            Kind::Release => self.release,
        }
    }

    /// One for each kind.
    #[must_use]
    pub fn each(raise: Stage, release: Stage) -> Self {
        Self { raise, release }
    }
}

impl From<Stage> for StageSetting {
    fn from(stage: Stage) -> Self {
        Self { raise: stage, release: stage }
    }
}

impl Serialize for StageSetting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.raise == self.release {
            return self.raise.serialize(serializer);
        }
        BTreeMap::from([(Kind::Raise, self.raise), (Kind::Release, self.release)]).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StageSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Both(String),
            Each(BTreeMap<String, String>),
        }
        let stage = |name: &str| {
            Stage::named(name).ok_or_else(|| {
                D::Error::custom(format!("`{name}` is no stage: observe, recommend, automate or expand"))
            })
        };
        let written = Written::deserialize(deserializer)
            .map_err(|_| D::Error::custom("a stage is a name, or { raise = \"...\", release = \"...\" }"))?;
        match written {
            Written::Both(name) => Ok(stage(&name)?.into()),
            Written::Each(each) => {
                let mut setting = Self::default();
                for (kind, name) in each {
                    match Kind::named(&kind) {
                        Some(Kind::Raise) => setting.raise = stage(&name)?,
                        Some(Kind::Release) => setting.release = stage(&name)?,
                        None => return Err(D::Error::custom(format!("`{kind}` is no kind: raise or release"))),
                    }
                }
                Ok(setting)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_ordered_and_known_by_their_names() {
        let stages = [Stage::Observe, Stage::Recommend, Stage::Automate, Stage::Expand];
        assert!(stages.is_sorted());
        assert!(stages.iter().all(|stage| Stage::named(stage.name()) == Some(*stage)));
        assert_eq!(stages.map(Stage::acts), [false, false, true, true]);
        assert_eq!((Kind::of(2, 3), Kind::of(3, 3), Kind::of(3, 2)), (Kind::Raise, Kind::Raise, Kind::Release));
    }

    #[test]
    fn a_setting_is_one_name_or_one_for_each_kind() {
        let read = |text: &str| serde_json::from_str::<StageSetting>(text);
        let both = read("\"automate\"").expect("a name");
        assert_eq!((both.of(Kind::Raise), both.of(Kind::Release)), (Stage::Automate, Stage::Automate));
        let each = read(r#"{"raise": "expand"}"#).expect("kinds");
        assert_eq!((each.of(Kind::Raise), each.of(Kind::Release)), (Stage::Expand, Stage::Recommend));
        for setting in [both, each] {
            let text = serde_json::to_string(&setting).expect("writes");
            assert_eq!(read(&text).expect("reads"), setting);
        }
        for (text, said) in [("\"all\"", "`all`"), (r#"{"grow": "automate"}"#, "`grow`"), ("3", "raise =")] {
            assert!(read(text).expect_err("no stage").to_string().contains(said), "{text}");
        }
    }
}
