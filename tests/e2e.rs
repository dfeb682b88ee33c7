//! The program as its users run it: the loop as one story, crashes in the middle, and mistakes.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "e2e/audit.rs"]
mod audit;
#[path = "e2e/crash.rs"]
mod crash;
#[path = "e2e/frames.rs"]
mod frames;
#[path = "e2e/lake.rs"]
mod lake;
#[path = "e2e/mistakes.rs"]
mod mistakes;
#[path = "e2e/program.rs"]
mod program;
#[path = "e2e/story.rs"]
mod story;
