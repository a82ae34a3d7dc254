//! The page of `virtctl vnc --web`, in a real Chromium, at a VM of this machine.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use e2e::{BOOT, Browser, Lab, Vm, eventually, program, repository};
use launcher_api::ScreenshotRequest;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long the page may take for anything, on a loaded machine that emulates the guest's CPU.
const MOMENT: Duration = Duration::from_secs(120);

/// How long keys may be on their way before they are pressed again.
const PATIENCE: Duration = Duration::from_secs(15);

/// Keys that wake a shell, and a command for it.
const KEYS: &str = "\ntouch /keys-have-come\n";

const WINDOW: (u32, u32) = (1440, 800);

/// How much of the screen, as the page shows it, differs from a picture of the guest's, and how
/// much of that picture is lit: means over all pixels, of 255. Chromium decodes, the page has the
/// place and the size.
const COMPARE: &str = "(async (guest, page) => {
    const bitmap = (data) => createImageBitmap(
        new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], { type: 'image/png' }));
    const rectangle = document.querySelector('#screen canvas').getBoundingClientRect();
    const [x, y, width, height] = ['x', 'y', 'width', 'height'].map((name) => Math.round(rectangle[name]));
    const pixels = async (data, ...part) => {
        const context = new OffscreenCanvas(width, height).getContext('2d');
        context.drawImage(await bitmap(data), ...part, 0, 0, width, height);
        return context.getImageData(0, 0, width, height).data;
    };
    const seen = await pixels(page, x, y, width, height);
    const real = await pixels(guest);
    const mean = (value) => real.reduce((sum, _, at) => at % 4 === 3 ? sum : sum + value(at), 0)
        / (real.length / 4 * 3);
    return { differs: mean((at) => Math.abs(seen[at] - real[at])), lit: mean((at) => real[at]) };
})";

/// `virtctl vnc --web`, and where its page is.
struct Served {
    child: Child,
    url: String,
}

impl Served {
    fn start(mut virtctl: Command) -> Self {
        let mut child = virtctl
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("virtctl can be started");
        let mut url = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut url).unwrap();
        url.truncate(url.trim_end().len());
        assert!(url.starts_with("http://127.0.0.1:"), "{url:?}");
        Self { child, url }
    }

    /// Ends it as Ctrl-C does.
    fn stop(mut self) {
        let id = Pid::from_raw(self.child.id().cast_signed());
        kill(id, Signal::SIGINT).unwrap();
        let status = eventually("the end of virtctl", MOMENT, || {
            self.child.try_wait().unwrap()
        });
        assert!(status.success(), "{status}");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The guest's screen as the launcher takes it: a PNG in base64.
async fn picture(vm: &Vm<'_>) -> String {
    let mut client = launcher_api::connect(&vm.runtime_dir()).await.unwrap();
    let request = ScreenshotRequest { move_cursor: false };
    let mut pieces = client.screenshot(request).await.unwrap().into_inner();
    let mut png = vec![];
    while let Some(piece) = pieces.message().await.unwrap() {
        png.extend(piece.data);
    }
    BASE64.encode(png)
}

/// How much the page's screen differs from `guest`, and how much of that is lit.
fn compare(browser: &mut Browser, guest: &str) -> (f64, f64) {
    let page = browser.screenshot();
    let means = browser.evaluate(&format!("{COMPARE}({guest:?}, {page:?})"));
    let mean = |name: &str| means[name].as_f64().unwrap();
    (mean("differs"), mean("lit"))
}

/// Waits until the page shows the guest's screen as it is now, and that is another one than
/// `before`; returns it.
async fn shows(browser: &mut Browser, vm: &Vm<'_>, before: Option<&str>) -> String {
    let until = Instant::now() + MOMENT;
    loop {
        let now = picture(vm).await;
        let (differs, lit) = compare(browser, &now);
        let was = before.map_or(lit, |before| compare(browser, before).0);
        // They are scaled by different hands, and the cursor blinks.
        if lit > 1.0 && differs < was / 3.0 {
            return now;
        }
        assert!(
            Instant::now() < until,
            "the page differs by {differs} from the guest's screen, which is lit by {lit}, and by \
             {was} from what it was",
        );
    }
}

/// Whether the serial console in the page shows `text`.
fn printed(text: &str) -> String {
    let lines = "document.querySelector('#console .xterm-rows').textContent";
    // Its blanks are not to be broken.
    format!("{lines}.replaceAll('\\u00a0', ' ').includes({text:?})")
}

/// Waits until the serial console in the page shows `text`.
fn prints(browser: &mut Browser, text: &str) {
    browser.wait_until(&printed(text), MOMENT);
}

fn state(pane: &str, state: &str) -> String {
    format!("document.getElementById({pane:?})?.dataset.state === {state:?}")
}

fn says(pane: &str, words: &str) -> String {
    format!("document.querySelector('#{pane} [role=status]').textContent.includes({words:?})")
}

#[tokio::test]
async fn a_browser_shows_the_guest_and_types_into_it() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &repository().join("examples/vm.yaml"), &[]);
    vm.wait_for("guest-ready", BOOT);
    let mut virtctl = lab.command(program("virtctl"));
    virtctl
        .arg("--root")
        .arg(lab.root())
        .args(["--local", "vnc", "--web", "hello"]);
    let served = Served::start(virtctl);
    let mut browser = Browser::open(&lab, &served.url, WINDOW);
    for pane in ["screen", "console"] {
        browser.wait_until(&state(pane, "connected"), MOMENT);
    }
    assert_eq!(browser.evaluate("document.title"), "hello · virtctl");
    prints(&mut browser, "mini# ");

    // The serial console fills the screen.
    browser.click("#console .xterm");
    browser.insert("seq -s ' ' 1 700 | tee /dev/tty1 | wc -c; echo filled-$((40 + 2))");
    browser.press("\n");
    prints(&mut browser, "filled-42");
    let filled = shows(&mut browser, &vm, None).await;

    // A shell on the screen's own terminal waits to be woken.
    browser.click("#screen canvas");
    browser.press(KEYS);
    let typed = shows(&mut browser, &vm, Some(&filled)).await;
    browser.click("#console .xterm");
    browser.insert("while ! ls /keys-have-come; do sleep 1; done; echo come-$((40 + 2))");
    browser.press("\n");
    // QEMU's keyboard keeps a few keys for a guest that is slow to take them, and no more.
    eventually("the keys", BOOT, || {
        let come = browser.becomes(&printed("come-42"), PATIENCE);
        if !come {
            browser.click("#screen canvas");
            browser.press(KEYS);
        }
        come.then_some(())
    });

    // Somebody else opens the console, and is driven out again.
    let console = vm.console();
    browser.wait_until(&state("console", "ended"), MOMENT);
    browser.wait_until(&says("console", "another one was opened"), MOMENT);
    browser.click("#console .again");
    browser.wait_until(&state("console", "connected"), MOMENT);
    assert!(console.ended(MOMENT).success());
    prints(&mut browser, "mini# ");

    browser.click("#keys");
    vm.wait_for_next("guest-rebooted", BOOT);
    shows(&mut browser, &vm, Some(&typed)).await;

    served.stop();
    for pane in ["screen", "console"] {
        browser.wait_until(&says(pane, "virtctl no longer answers"), MOMENT);
    }
    drop(browser);
    vm.shut_down();
    lab.assert_clean();
}
