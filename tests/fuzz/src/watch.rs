//! The watch over a case: where it panicked, and the input of one that hangs or takes the process down.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{Write, stderr};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::corpus::{self, Sample};

/// The longest time of one case. The slowest takes milliseconds; the machine may be busy.
const HANGS_AFTER: Duration = Duration::from_secs(30);

thread_local! {
    static IS_CASE: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps the panics of a case from the output: a failing case is tried hundreds of times.
pub(crate) fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IS_CASE.get() {
                PANIC.set(info.to_string());
            } else {
                loud(info);
            }
        }));
    });
}

/// Returns what the last panic of this thread said, and where it was.
pub(crate) fn last_panic() -> String {
    PANIC.take()
}

/// The input of the case that runs, and its start.
type Running = Mutex<Option<(Instant, Vec<u8>)>>;

/// The watch over the cases of a target.
pub(crate) struct Watch {
    running: Arc<Running>,
    /// Holds the input of the case that runs. It outlives the process if a case kills it: the stack overflows, or memory
    /// ends.
    file: PathBuf,
    /// Stays open: to create the file anew for each case would cost more than the case.
    open: Option<File>,
    left: Option<Sample>,
}

impl Watch {
    pub(crate) fn over(target: &'static str) -> Self {
        let running = Arc::new(Running::default());
        let watched = Arc::downgrade(&running);
        thread::spawn(move || watch(target, &watched));
        let beside = std::env::current_exe().unwrap_or_default();
        let file = beside.with_file_name(format!("fuzz-{target}.running"));
        let bytes = fs::read(&file).ok();
        let left = bytes.map(|bytes| Sample { name: file.display().to_string(), bytes });
        let open = File::options().write(true).create(true).truncate(false).open(&file).ok();
        Self { running, file, open, left }
    }

    /// Returns the input of a case that took an earlier run down.
    pub(crate) fn left_by_a_dead_run(&self) -> Option<&Sample> {
        self.left.as_ref()
    }

    /// Runs a case under watch.
    pub(crate) fn during<T>(&self, input: &[u8], case: impl FnOnce() -> T) -> T {
        if let Some(file) = &self.open {
            // Without the file the run is as good, and a death of the process harder to explain.
            let _ = file.write_all_at(input, 0).and_then(|()| file.set_len(input.len() as u64));
        }
        self.set(Some((Instant::now(), input.to_vec())));
        let before = IS_CASE.replace(true);
        let outcome = case();
        IS_CASE.set(before);
        self.set(None);
        outcome
    }

    fn set(&self, case: Option<(Instant, Vec<u8>)>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = case;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// Ends the process if a case hangs: nothing else can end a thread.
fn watch(target: &str, running: &Weak<Running>) {
    while let Some(running) = running.upgrade() {
        let hung = match &*running.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((since, input)) if since.elapsed() > HANGS_AFTER => Some(input.clone()),
            _ => None,
        };
        if let Some(input) = hung {
            let saved = corpus::save(target, &input);
            let problem = format!("a case hangs for {} s", HANGS_AFTER.as_secs());
            // libtest would keep what `eprintln` says for the end of the test.
            let _ = writeln!(stderr(), "target {target}: {problem}\nThe input is kept in {saved}");
            std::process::exit(101);
        }
        drop(running);
        thread::sleep(Duration::from_secs(1));
    }
}
