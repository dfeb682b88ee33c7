//! Lines for whoever called the program. A reader that has gone away, as behind `| head`, is no reason to panic.

use std::fmt;
use std::io::Write;

/// One line of a command's answer, on stdout.
pub(crate) fn answer(line: impl fmt::Display) {
    writeln!(std::io::stdout(), "{line}").ok();
}

/// One line for the person at the terminal, on stderr.
pub(crate) fn say(line: impl fmt::Display) {
    writeln!(std::io::stderr(), "{line}").ok();
}
