//! Who asks over gRPC. Where the listener asks for tokens, it puts the caller into each request; else everyone is whom
//! they say.

use headroom_actuator_decide::roles::{Role, Roles};
use tonic::{Request, Status};

/// Someone whose token was good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's subject: it stands in the record.
    pub subject: String,
    /// What they may do.
    pub roles: Roles,
}

impl Caller {
    /// May the caller do what that role may?
    #[must_use]
    pub fn may(&self, role: Role) -> bool {
        self.roles.has(role)
    }
}

/// Settles who asks: the token's subject, which a name that is given must not contradict, or else the name. Gives the roles.
pub(crate) fn identified<T>(request: Request<T>, actor: impl Fn(&mut T) -> &mut String) -> Result<(T, Roles), Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    let mut asked = request.into_inner();
    let name = actor(&mut asked);
    let Some(caller) = caller else {
        if name.trim().is_empty() {
            return Err(Status::invalid_argument("`actor` is empty: say who you are"));
        }
        return Ok((asked, Roles::ALL));
    };
    if !name.is_empty() && *name != caller.subject {
        let message = format!("the token is that of `{}`, not of `{name}`: leave the name away", caller.subject);
        return Err(Status::permission_denied(message));
    }
    *name = caller.subject;
    Ok((asked, caller.roles))
}

#[cfg(test)]
mod tests {
    use headroom_proto::v1::PauseRequest;
    use tonic::Code;

    use super::*;

    fn asked(actor: &str, caller: Option<Caller>) -> Result<(PauseRequest, Roles), Status> {
        let mut request = Request::new(PauseRequest { actor: actor.to_owned(), ..PauseRequest::default() });
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        identified(request, |request| &mut request.actor)
    }

    #[test]
    fn the_token_says_who_asks_and_a_name_must_not_contradict_it() {
        let ann = || Some(Caller { subject: "ann".to_owned(), roles: Roles::of([Role::Operator]) });
        for name in ["", "ann"] {
            let (request, roles) = asked(name, ann()).expect("it is ann");
            assert_eq!((request.actor.as_str(), roles), ("ann", Roles::of([Role::Operator])));
        }
        assert_eq!(asked("bob", ann()).expect_err("not bob").code(), Code::PermissionDenied);
        assert_eq!(asked("bob", None).expect("as he says").1, Roles::ALL);
        assert_eq!(asked(" ", None).expect_err("nobody").code(), Code::InvalidArgument);
    }
}
