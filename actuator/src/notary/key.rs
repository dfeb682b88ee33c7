//! The key that signs checkpoints: a file for its owner alone, in the format of C2SP signed notes.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use headroom_actuator_decide::audit::note::Signer;

use crate::ActuatorError;

/// Reads the key, or makes one when there is no file. The public key stands beside it, in a file that ends in `.pub`.
pub(super) fn load_or_make(path: &Path, name: &str) -> Result<Signer, ActuatorError> {
    let failed = |problem: String| ActuatorError::Key { path: path.display().to_string(), problem };
    let signer = match std::fs::read_to_string(path) {
        Ok(text) => {
            check_owner(path).map_err(failed)?;
            let signer = Signer::parse(&text).map_err(|error| {
                failed(format!("{error}: restore it, or move it away and a new key is made with the next start"))
            })?;
            let named = signer.verifier().name().to_owned();
            if named != name {
                let problem =
                    format!("the key is named `{named}`: set actuate.audit.name to that, or take another key");
                return Err(failed(problem));
            }
            signer
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut seed = [0_u8; 32];
            aws_lc_rs::rand::fill(&mut seed).map_err(|_| failed("no randomness for a new key".to_owned()))?;
            let signer = Signer::new(name, seed).map_err(|error| failed(error.to_string()))?;
            write_secret(path, &signer.secret()).map_err(|error| failed(error.to_string()))?;
            tracing::info!(path = %path.display(), "made a key to sign checkpoints");
            signer
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let public = path.with_extension("pub");
    std::fs::write(&public, format!("{}\n", signer.verifier()))
        .map_err(|error| failed(format!("{}: {error}", public.display())))?;
    Ok(signer)
}

/// A secret that others may read is none.
#[cfg(unix)]
fn check_owner(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(format!("others may read it (mode {:o}): chmod 600 {}", mode & 0o777, path.display()))
}

#[cfg(not(unix))]
fn check_owner(_path: &Path) -> Result<(), String> {
    Ok(())
}

fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    writeln!(file, "{secret}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_key_is_made_once_for_its_owner_alone_and_a_bad_one_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temp folder");
        let path = folder.path().join("audit").join("signing.key");
        let made = load_or_make(&path, "headroom").expect("made").verifier();
        assert_eq!(std::fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_make(&path, "headroom").expect("kept").verifier(), made);
        let public = std::fs::read_to_string(path.with_extension("pub")).expect("is there");
        assert_eq!(public.trim(), made.to_string());
        assert!(load_or_make(&path, "other").expect_err("another name").to_string().contains("`headroom`"));

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("sets");
        assert!(load_or_make(&path, "headroom").expect_err("open to others").to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("sets");
        let secret = std::fs::read_to_string(&path).expect("reads");
        std::fs::write(&path, secret.replace("headroom+", "headroon+")).expect("writes");
        let message = load_or_make(&path, "headroom").expect_err("changed").to_string();
        assert!(message.contains("signing.key") && message.contains("no Ed25519 key"), "{message}");
        let rest = secret.rsplit('+').next().unwrap_or_default();
        assert!(!message.contains(rest), "a key is never shown");
    }
}
