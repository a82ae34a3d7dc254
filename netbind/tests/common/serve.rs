//! `netbind serve` beside a test.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;

use super::{PATIENCE, Pod, Process};

/// `netbind serve`, ended with the value.
pub(crate) struct Serve {
    _process: Process,
    events: Receiver<Value>,
}

impl Serve {
    pub(crate) fn start(pod: &Pod) -> Self {
        let mut process = Process::start(pod.netbind(&["serve", "--json"]).stdout(Stdio::piped()));
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in lines {
                let _ = sender.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        Self {
            _process: process,
            events,
        }
    }

    /// Waits for the next event of that name.
    pub(crate) fn event(&self, name: &str) -> Value {
        loop {
            let event = self.events.recv_timeout(PATIENCE).expect(name);
            if event["event"] == name {
                return event;
            }
        }
    }
}
