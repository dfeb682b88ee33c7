//! Tokens from a file or from the environment. Only their hashes are kept.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use headroom_actuator::Caller;
use headroom_actuator_decide::roles::{Role, Roles};

const MIN_LENGTH: usize = 16;

/// Who has which token.
#[derive(Default)]
pub(super) struct Tokens(Vec<([u8; 32], Caller)>);

impl Tokens {
    /// Reads `name:role,role:token` lines; empty lines and lines that begin with `#` are left out.
    ///
    /// # Errors
    /// Says which line of what is wrong. Tokens are never told.
    pub(super) fn read(&mut self, text: &str, from: &str) -> Result<(), String> {
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let told = |problem: String| format!("{from}: line {number}: {problem}");
            let mut parts = line.splitn(3, ':').map(str::trim);
            let (Some(name), Some(roles), Some(token)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(told("write `name:role,role:token`".to_owned()));
            };
            if name.is_empty() || token.len() < MIN_LENGTH {
                return Err(told(format!("it needs a name, and a token of {MIN_LENGTH} characters or more")));
            }
            let roles: Result<Vec<Role>, String> = roles.split(',').map(|role| role.trim().parse()).collect();
            let roles = Roles::of(roles.map_err(told)?);
            self.0.push((hashed(token), Caller { subject: name.to_owned(), roles }));
        }
        if self.0.is_empty() { Err(format!("{from} holds no token: write `name:role,role:token`")) } else { Ok(()) }
    }

    /// Whose token it is. Every hash is compared, each in the same time.
    pub(super) fn caller(&self, token: &str) -> Option<Caller> {
        let given = hashed(token);
        let mut found = None;
        for (hash, caller) in &self.0 {
            if verify_slices_are_equal(hash, &given).is_ok() {
                found = Some(caller.clone());
            }
        }
        found
    }
}

fn hashed(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(_, caller)| caller)).finish()
    }
}
