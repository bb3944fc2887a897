//! `cargo xtask images`: container images without a container engine. Entry: [`build`].
//! Programs are built, packed into archives in `<target>/images`, and pushed when asked to.

mod archive;
pub(crate) mod binaries;
mod contents;
mod push;
mod servers;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::archive::{Archive, Written};
use self::binaries::Binaries;
use self::contents::Recipe;
use crate::{dashboard, progress};

/// Arguments of `cargo xtask images`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What stands in front of every image's name
    #[arg(long, default_value = linkerd_names::REGISTRY_DEFAULT)]
    registry: String,
    /// Push the images there, such as ghcr.io/you; it stands in front of their names
    #[arg(long, value_name = "REGISTRY", conflicts_with = "registry")]
    push: Option<String>,
    /// User of the registry (default: what docker login has kept)
    #[arg(long, requires = "push", requires = "password_stdin")]
    username: Option<String>,
    /// Read the password, or token, of the registry from stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Talk http with a registry that is not on this machine
    #[arg(long, requires = "push")]
    plain_http: bool,
}

/// Which images to make, and how to call them.
pub(crate) struct Options {
    /// What stands in front of every image's name.
    pub(crate) registry: String,
    /// Whether to make the image of Prometheus. Only the local cluster needs it: others pull the
    /// one of the Prometheus project.
    pub(crate) prometheus: bool,
    /// Whether to make the image of Debian's servers, which only cluster tests need.
    pub(crate) servers: bool,
}

/// What was made.
pub(crate) struct Built {
    /// Every image.
    pub(crate) images: Vec<Image>,
    /// The CLI for this machine.
    pub(crate) linkerd: PathBuf,
}

/// An image in an archive.
pub(crate) struct Image {
    /// Full name, with registry and tag.
    pub(crate) name: String,
    /// Path of the archive; `ctr image import`, `docker load` and `podman load` read it.
    pub(crate) archive: PathBuf,
    short: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            registry: linkerd_names::REGISTRY_DEFAULT.to_owned(),
            prometheus: true,
            servers: false,
        }
    }
}

impl Built {
    /// Returns the archives of all images.
    pub(crate) fn archives(&self) -> Vec<PathBuf> {
        self.images
            .iter()
            .map(|image| image.archive.clone())
            .collect()
    }

    /// Returns the full name of an image, such as `prometheus`.
    ///
    /// # Errors
    /// When that image was not made.
    pub(crate) fn name_of(&self, short: &str) -> Result<&str> {
        let image = self.images.iter().find(|image| image.short == short);
        image
            .map(|image| image.name.as_str())
            .with_context(|| format!("no image {short}"))
    }
}

/// Runs the task; prints the name and archive of every image.
///
/// # Errors
/// Those of [`build`] and [`push()`].
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args {
        registry,
        push: push_to,
        username,
        password_stdin: _,
        plain_http,
    } = args;
    let credentials = username.map(read_password).transpose()?;
    let options = match &push_to {
        Some(registry) => Options {
            registry: registry.clone(),
            prometheus: false,
            servers: false,
        },
        None => Options {
            registry,
            ..Options::default()
        },
    };
    let built = build(&options)?;
    if push_to.is_some() {
        push::push(
            &built.images,
            &push::Access {
                credentials,
                plain_http,
            },
        )?;
    }
    for Image {
        name,
        archive,
        short: _,
    } in &built.images
    {
        anstream::println!("{name}\t{}", archive.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn read_password(username: String) -> Result<push::Credentials> {
    let password = std::io::read_to_string(std::io::stdin().lock())
        .context("cannot read the password from stdin")?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    ensure!(!password.is_empty(), "the password on stdin is empty");
    Ok(push::Credentials { username, password })
}

/// Pushes the images to the registry in their names, as the user that `docker login` has kept.
/// With `plain_http` also over http where the registry is not on this machine.
///
/// # Errors
/// At the first image that the registry does not take.
pub(crate) fn push(built: &Built, plain_http: bool) -> Result<()> {
    push::push(
        &built.images,
        &push::Access {
            credentials: None,
            plain_http,
        },
    )
}

/// Builds all programs and makes the images. What has not changed since the last time is left as it
/// is.
///
/// # Errors
/// When a program does not build, Debian's packages cannot be had, or an image is larger than it
/// may be.
pub(crate) fn build(options: &Options) -> Result<Built> {
    let Options {
        registry,
        prometheus,
        servers,
    } = options;
    // Without Node there is none, and linkerd-api says so on its page.
    dashboard::build()?;
    let binaries = progress::step("build the programs", || {
        binaries::build(&binaries::PACKAGES)
    })?;
    let folder = binaries.target.join("images");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let time = source_date(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())?;
    let mut images = Vec::new();
    for recipe in &contents::RECIPES {
        let wanted = match recipe.name {
            contents::PROMETHEUS => *prometheus,
            contents::SERVERS => *servers,
            _ => true,
        };
        if wanted {
            let made = make(recipe, registry, &binaries, &folder, time);
            images.push(made.with_context(|| format!("cannot make the image {}", recipe.name))?);
        }
    }
    Ok(Built {
        images,
        linkerd: binaries.get("linkerd")?.to_path_buf(),
    })
}

fn make(
    recipe: &Recipe,
    registry: &str,
    binaries: &Binaries,
    folder: &Path,
    time: OffsetDateTime,
) -> Result<Image> {
    let name = format!("{registry}/{}:{}", recipe.name, recipe.tag);
    let archive = folder.join(format!("{}.tar", recipe.name));
    let tree = recipe.tree(binaries)?;
    if let Some(bytes_max) = recipe.bytes_max {
        let bytes = tree.len();
        ensure!(
            bytes <= bytes_max,
            "{bytes} bytes, and at most {bytes_max} are allowed"
        );
    }
    let created = time.format(&Rfc3339).context("SOURCE_DATE_EPOCH")?;
    let seconds = u64::try_from(time.unix_timestamp()).context("SOURCE_DATE_EPOCH")?;
    let written = Archive {
        name: &name,
        config: recipe.config(&created),
        files: &tree.tar(seconds)?,
        time: seconds,
        created: &created,
    }
    .write(&archive)?;
    let packed = fs::metadata(&archive).map(|metadata| metadata.len())?;
    anstream::eprintln!(
        "{:>8}  image {name}: {} unpacked, {} packed",
        match written {
            Written::Kept => "same",
            Written::New => "new",
        },
        megabytes(tree.len()),
        megabytes(packed),
    );
    Ok(Image {
        name,
        archive,
        short: recipe.name,
    })
}

/// Writes the image `name` around one static program, which is its entrypoint and runs as nobody in
/// particular.
///
/// # Errors
/// When the program cannot be read, or the archive not be written.
pub(crate) fn pack_program(name: &str, program: &Path, archive: &Path) -> Result<()> {
    let file = program.file_name().context("a program has a name")?;
    let path = Path::new("/").join(file);
    let mut tree = tree::Tree::default();
    tree.program(program, &path)?;
    let config = serde_json::json!({ "Entrypoint": [path], "User": "65535:65535" });
    let files = &tree.tar(0)?;
    Archive {
        name,
        config,
        files,
        time: 0,
        created: "1970-01-01T00:00:00Z",
    }
    .write(archive)?;
    Ok(())
}

/// The time for everything in an image: `SOURCE_DATE_EPOCH`, or 1970, so that the same files give
/// the same image.
fn source_date(variable: Option<&str>) -> Result<OffsetDateTime> {
    let seconds = variable
        .filter(|text| !text.is_empty())
        .map_or(Ok(0), str::parse::<u32>);
    let seconds = seconds.context("SOURCE_DATE_EPOCH is not a number of seconds")?;
    OffsetDateTime::from_unix_timestamp(seconds.into()).context("SOURCE_DATE_EPOCH")
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_of_1970_unless_told_otherwise() {
        assert_eq!(source_date(None).unwrap(), OffsetDateTime::UNIX_EPOCH);
        assert_eq!(source_date(Some("")).unwrap(), OffsetDateTime::UNIX_EPOCH);
        assert_eq!(source_date(Some("1533000000")).unwrap().year(), 2018);
        assert!(source_date(Some("yesterday")).is_err());
        assert!(source_date(Some("-1")).is_err());
    }
}
