//! Which call of the API does what: pure.

use serde_json::{Map, Value, json};

use crate::stream::Stream;
use crate::target::{Action, Kind, Question};

/// The object and the subresource of `stream`, for a machine that the user named by `kind`.
pub(super) fn stream(kind: Kind, stream: Stream) -> (Kind, String) {
    match stream {
        Stream::Console => (Kind::Vmi, "console".to_owned()),
        Stream::Vnc { preserve_session } => {
            let query = if preserve_session {
                "?preserveSession=true"
            } else {
                ""
            };
            (Kind::Vmi, format!("vnc{query}"))
        }
        Stream::Port { port, protocol } => (kind, format!("portforward/{port}/{protocol}")),
    }
}

/// The object, the subresource and the body of the PUT that asks for `action`.
pub(super) fn action(action: Action, dry_run: bool) -> (Kind, &'static str, Value) {
    let mut body = Map::new();
    let seconds = |period: std::time::Duration| json!(period.as_secs());
    let (kind, rest) = match action {
        Action::Start { paused } => {
            if paused {
                body.insert("paused".to_owned(), json!(true));
            }
            (Kind::Vm, "start")
        }
        Action::Stop { grace_period } => {
            body.extend(grace_period.map(|period| ("gracePeriod".to_owned(), seconds(period))));
            (Kind::Vm, "stop")
        }
        Action::Restart { grace_period } => {
            let field = "gracePeriodSeconds".to_owned();
            body.extend(grace_period.map(|period| (field, seconds(period))));
            (Kind::Vm, "restart")
        }
        Action::Pause => (Kind::Vmi, "pause"),
        Action::Unpause => (Kind::Vmi, "unpause"),
        Action::SoftReboot => (Kind::Vmi, "softreboot"),
        Action::Reset => (Kind::Vmi, "reset"),
    };
    if dry_run {
        body.insert("dryRun".to_owned(), json!(["All"]));
    }
    (kind, rest, Value::Object(body))
}

/// The subresource that answers `question`.
pub(super) fn question(question: Question) -> &'static str {
    match question {
        Question::Os => "guestosinfo",
        Question::Users => "userlist",
        Question::Filesystems => "filesystemlist",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stream::Protocol;

    #[test]
    fn streams_have_kubevirts_paths() {
        let port = |protocol| Stream::Port { port: 22, protocol };
        let vnc = |preserve_session| Stream::Vnc { preserve_session };
        for (named, asked, kind, path) in [
            (Kind::Vm, Stream::Console, Kind::Vmi, "console"),
            (Kind::Vm, vnc(false), Kind::Vmi, "vnc"),
            (Kind::Vmi, vnc(true), Kind::Vmi, "vnc?preserveSession=true"),
            (
                Kind::Vm,
                port(Protocol::Tcp),
                Kind::Vm,
                "portforward/22/tcp",
            ),
            (
                Kind::Vmi,
                port(Protocol::Udp),
                Kind::Vmi,
                "portforward/22/udp",
            ),
        ] {
            assert_eq!(stream(named, asked), (kind, path.to_owned()), "{asked:?}");
        }
    }

    #[test]
    fn actions_have_kubevirts_options() {
        let grace_period = Some(Duration::from_secs(5));
        for (asked, dry_run, kind, path, body) in [
            (
                Action::Start { paused: false },
                false,
                Kind::Vm,
                "start",
                json!({}),
            ),
            (
                Action::Start { paused: true },
                false,
                Kind::Vm,
                "start",
                json!({"paused": true}),
            ),
            (
                Action::Stop { grace_period },
                false,
                Kind::Vm,
                "stop",
                json!({"gracePeriod": 5}),
            ),
            (
                Action::Stop { grace_period: None },
                true,
                Kind::Vm,
                "stop",
                json!({"dryRun": ["All"]}),
            ),
            (
                Action::Restart { grace_period },
                false,
                Kind::Vm,
                "restart",
                json!({"gracePeriodSeconds": 5}),
            ),
            (
                Action::Pause,
                true,
                Kind::Vmi,
                "pause",
                json!({"dryRun": ["All"]}),
            ),
            (
                Action::SoftReboot,
                false,
                Kind::Vmi,
                "softreboot",
                json!({}),
            ),
        ] {
            assert_eq!(action(asked, dry_run), (kind, path, body), "{asked:?}");
        }
    }
}
