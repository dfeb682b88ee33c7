//! What an actuator makes of a record that ended in the middle.
