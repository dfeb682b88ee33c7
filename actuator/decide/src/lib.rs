//! Planner, policy, guard.
