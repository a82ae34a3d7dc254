//! Writes the CustomResourceDefinitions into `deploy/crds`.

use std::fs;
use std::path::Path;

use anyhow::Context;
use crds::definitions::{definitions, file};

fn main() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for definition in definitions() {
        let (name, text) = file(&definition)?;
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
