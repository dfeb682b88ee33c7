//! What a model can refuse.

/// A configuration or a series that no model can be made from.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A setting is out of range.
    #[error("`{setting}`: {problem}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// Too little history, or none that varies as the family needs.
    #[error("{family}: {problem}")]
    Fit {
        /// The family that was to be fitted.
        family: &'static str,
        /// Why it could not.
        problem: String,
    },
}
