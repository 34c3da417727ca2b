//! The samples of a target, and the words in them.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::text;

/// A file of the corpus.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl Sample {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

#[derive(Debug)]
pub(crate) struct Corpus {
    pub(crate) samples: Vec<Sample>,
    /// Every word of a sample, and of the target, once.
    pub(crate) words: Vec<String>,
}

impl Corpus {
    /// Reads the target's own folder and further ones.
    ///
    /// # Panics
    /// A folder can't be read, or there is no sample at all.
    pub(crate) fn read(target: &str, folders: &[&str], words: &[&str]) -> Self {
        let own = folder_of(target);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folders = folders.iter().map(|folder| root.join(folder));
        let mut samples: Vec<Sample> = [own]
            .into_iter()
            .filter(|own| own.exists())
            .chain(folders)
            .flat_map(|folder| files(&folder))
            .collect();
        samples.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(!samples.is_empty(), "target {target} has no sample");
        Self::of(samples, words)
    }

    pub(crate) fn of(samples: Vec<Sample>, words: &[&str]) -> Self {
        let mut all: BTreeSet<String> = words.iter().map(|word| (*word).to_owned()).collect();
        for sample in &samples {
            all.extend(
                text::tokens(&sample.text()).into_iter().filter(|t| t.len() <= 200).map(str::to_owned),
            );
        }
        Self { samples, words: all.into_iter().collect() }
    }
}

fn folder_of(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

#[expect(clippy::expect_used, reason = "it is a test")]
fn files(folder: &Path) -> Vec<Sample> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic_at(folder, &error));
    let paths =
        entries.map(|entry| entry.expect("an entry of a folder").path()).filter(|path| path.is_file());
    paths
        .map(|path| Sample {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            bytes: fs::read(&path).expect("a readable sample"),
        })
        .collect()
}

#[expect(clippy::panic, reason = "it is a test")]
fn panic_at(folder: &Path, error: &std::io::Error) -> ! {
    panic!("{}: {error}", folder.display())
}

/// Saves an input in the target's folder. Returns the path, or why it could not be saved.
pub(crate) fn save(target: &str, input: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = folder_of(target).join(format!("found-{:016x}", hasher.finish()));
    let saved = fs::create_dir_all(folder_of(target)).and_then(|()| fs::write(&path, input));
    match saved {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("no file ({error})"),
    }
}
