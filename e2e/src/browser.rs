//! A headless Chromium with one page, driven as its developer tools drive it.
//!
//! The DevTools protocol goes over two pipes (`--remote-debugging-pipe`): JSON, each message ended
//! by a zero byte. <https://chromedevtools.github.io/devtools-protocol/>

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Lab;

/// How long an answer may take, on a loaded machine.
const MOMENT: Duration = Duration::from_secs(120);

/// Chromium has its pipes at descriptors 3 and 4, and says nothing else.
const START: &str = r#"exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;

/// The browser. It ends with this value.
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    received: Receiver<Value>,
    /// Received, and not asked for yet.
    events: Vec<Value>,
    /// Of the page; empty before there is one.
    session: String,
    calls: u64,
}

impl Browser {
    /// Opens `url` on that host, in a window of `size` pixels.
    ///
    /// # Panics
    /// Where Chromium is not installed or does not start.
    pub fn open(lab: &Lab, url: &str, (width, height): (u32, u32)) -> Self {
        let mut child = lab
            .command("sh")
            .args(["-c", START, "chromium", "--headless=new"])
            // Tests run as root, which it refuses to do in its sandbox; it has no GPU here.
            .args(["--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-breakpad"])
            .arg("--remote-debugging-pipe")
            .arg(format!("--window-size={width},{height}"))
            .arg(format!(
                "--user-data-dir={}",
                lab.path().join("browser").display()
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell can be started");
        let commands = child.stdin.take().expect("it is a pipe");
        let stdout = child.stdout.take().expect("it is a pipe");
        let (sender, received) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(stdout).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("Chromium speaks JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            commands,
            received,
            events: vec![],
            session: String::new(),
            calls: 0,
        };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"]
            .as_str()
            .expect("a page has a session")
            .to_owned();
        browser.call("Page.enable", json!({}));
        browser.call("Page.navigate", json!({ "url": url }));
        browser.receive("the page", |event| event["method"] == "Page.loadEventFired");
        browser
    }

    /// One command of the protocol; returns its result.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut command = json!({ "id": self.calls, "method": method, "params": params });
        if !self.session.is_empty() {
            command["sessionId"] = self.session.as_str().into();
        }
        self.commands
            .write_all(format!("{command}\0").as_bytes())
            .expect("Chromium runs: is it installed?");
        let id = self.calls;
        let mut answer = self.receive(method, |message| message["id"] == id);
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }

    /// Waits for a message; others are kept.
    fn receive(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.events.iter().position(&wanted) {
            return self.events.swap_remove(at);
        }
        let until = Instant::now() + MOMENT;
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            let message = self.received.recv_timeout(rest);
            let message = message.unwrap_or_else(|error| panic!("{what}: {error}"));
            if wanted(&message) {
                return message;
            }
            self.events.push(message);
        }
    }

    /// The value of a JavaScript expression in the page, or what its promise brings.
    ///
    /// # Panics
    /// Where it throws.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({
            "expression": expression,
            "awaitPromise": true,
            "returnByValue": true,
            // As if a person had clicked.
            "userGesture": true,
        });
        let mut answer = self.call("Runtime.evaluate", params);
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        answer["result"]["value"].take()
    }

    /// Waits until a JavaScript expression is true.
    ///
    /// # Panics
    /// When it is not, in time, with what the page says.
    pub fn wait_until(&mut self, expression: &str, limit: Duration) {
        if !self.becomes(expression, limit) {
            let says = self.evaluate("document.body.innerText");
            panic!("not within {limit:?}: {expression}\nthe page says:\n{says}");
        }
    }

    /// Whether a JavaScript expression is true in time.
    pub fn becomes(&mut self, expression: &str, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while self.evaluate(expression) != true {
            if Instant::now() >= until {
                return false;
            }
            // The page has no event for most of what is waited for.
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }

    /// Hands text to what has the focus, as an input method does.
    pub fn insert(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses the keys that write `text` on a US keyboard: lower-case letters, blanks, `-`, `/` and
    /// newlines.
    ///
    /// # Panics
    /// At another character.
    pub fn press(&mut self, text: &str) {
        for character in text.chars() {
            let (key, code, number) = match character {
                'a'..='z' => (
                    character.to_string(),
                    format!("Key{}", character.to_ascii_uppercase()),
                    u32::from(character.to_ascii_uppercase()),
                ),
                ' ' => (" ".into(), "Space".into(), 32),
                '\n' => ("Enter".into(), "Enter".into(), 13),
                '-' => ("-".into(), "Minus".into(), 189),
                '/' => ("/".into(), "Slash".into(), 191),
                other => panic!("no key for {other:?}"),
            };
            let typed = if character == '\n' {
                "\r".into()
            } else {
                key.clone()
            };
            let mut event = json!({ "key": key, "code": code, "windowsVirtualKeyCode": number });
            event["type"] = "keyDown".into();
            event["text"] = typed.into();
            self.call("Input.dispatchKeyEvent", event.clone());
            event["type"] = "keyUp".into();
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Clicks in the middle of the element that a CSS selector names.
    ///
    /// # Panics
    /// Where there is none.
    pub fn click(&mut self, selector: &str) {
        let place = self.evaluate(&format!(
            "(() => {{ const r = document.querySelector({selector:?}).getBoundingClientRect();
                return {{ x: r.x + r.width / 2, y: r.y + r.height / 2 }}; }})()"
        ));
        for event in ["mousePressed", "mouseReleased"] {
            let params = json!({
                "type": event, "x": place["x"], "y": place["y"], "button": "left", "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", params);
        }
    }

    /// What the window shows, as a PNG in base64.
    ///
    /// # Panics
    /// Where Chromium draws nothing.
    pub fn screenshot(&mut self) -> String {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        shot["data"]
            .as_str()
            .expect("a picture has data")
            .to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its other processes end after this one does.
        let _ = self
            .commands
            .write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let ended = |child: &mut Child| matches!(child.try_wait(), Ok(Some(_)));
        let until = Instant::now() + Duration::from_secs(10);
        while !ended(&mut self.child) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
