//! The image for tests against real servers: Debian's MariaDB, PostgreSQL, Redis, OpenSMTPD and nginx
//! with their clients, and a shell to start them. Entry: [`add`]. No product needs it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::tree::{Rights, Tree};
use crate::debian;

/// The user as whom all but OpenSMTPD run: PostgreSQL refuses root, and wants its user to have a name.
pub(super) const USER: u32 = 1000;

/// The packages whose programs are in the image.
const PACKAGES: [&str; 9] = [
    "dash",
    "mariadb-client-core",
    "mariadb-server-core",
    "nginx",
    "opensmtpd",
    "postgresql-15",
    "postgresql-client-15",
    "redis-server",
    "redis-tools",
];

/// The packages of their libraries, beyond the ones of C and C++, which the build machine has.
const LIBRARIES: [&str; 48] = [
    "libaio1",
    "libatomic1",
    "libaudit1",
    "libbsd0",
    "libcap-ng0",
    "libcap2",
    "libcom-err2",
    "libcrypt1",
    "libdb5.3",
    "libedit2",
    "libevent-2.1-7",
    "libffi8",
    "libgcrypt20",
    "libgmp10",
    "libgnutls30",
    "libgpg-error0",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libicu72",
    "libidn2-0",
    "libjemalloc2",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "liblz4-1",
    "liblzf1",
    "liblzma5",
    "libmd0",
    "libncurses6",
    "libnettle8",
    "libnuma1",
    "libp11-kit0",
    "libpam0g",
    "libpcre2-8-0",
    "libpq5",
    "libreadline8",
    "libsasl2-2",
    "libssl3",
    "libsystemd0",
    "libtasn1-6",
    "libtinfo6",
    "libunistring2",
    "liburing2",
    "libxml2",
    "libzstd1",
    "zlib1g",
];

/// Programs, at the same path in the image as in their package.
const PROGRAMS: [&str; 12] = [
    "/usr/bin/mariadb",
    "/usr/bin/redis-cli",
    "/usr/lib/postgresql/15/bin/initdb",
    "/usr/lib/postgresql/15/bin/postgres",
    "/usr/lib/postgresql/15/bin/psql",
    "/usr/lib/postgresql/15/lib/dict_snowball.so",
    "/usr/lib/postgresql/15/lib/plpgsql.so",
    "/usr/libexec/opensmtpd/mail.maildir",
    "/usr/sbin/mariadbd",
    "/usr/sbin/nginx",
    "/usr/sbin/smtpctl",
    "/usr/sbin/smtpd",
];

/// Programs that are called by another name, on which what they do may depend.
const RENAMED: [(&str, &str); 2] = [
    ("/bin/dash", "/bin/sh"),
    ("/usr/bin/redis-check-rdb", "/usr/bin/redis-server"),
];

/// Folders whose files the programs read.
const DATA: [&str; 3] = [
    "/usr/share/mysql/charsets",
    "/usr/share/mysql/english",
    "/usr/share/postgresql/15",
];

/// Folders in which the programs write, their modes and owners.
const WRITABLE: [(&str, u32, u32); 9] = [
    ("/data", 0o700, USER),
    ("/dev/shm", 0o1777, 0),
    ("/run", 0o755, 0),
    ("/tmp", 0o1777, 0),
    ("/var/lib/nginx", 0o755, USER),
    ("/var/lib/opensmtpd/empty", 0o755, 0),
    ("/var/log/nginx", 0o755, USER),
    ("/var/run", 0o755, 0),
    ("/var/spool/smtpd", 0o711, 0),
];

/// Where the programs lie.
pub(super) const PATH: &str = "/bin:/usr/bin:/usr/sbin:/usr/lib/postgresql/15/bin";

/// Adds the programs, what they need, and their users.
///
/// # Errors
/// When Debian's packages cannot be had, or lack something.
pub(super) fn add(tree: &mut Tree) -> Result<()> {
    let packages = [&PACKAGES[..], &LIBRARIES[..]].concat();
    let folders = debian::unpack_all(&packages)?;
    let mut programs = Vec::new();
    let same = PROGRAMS.map(|program| (program, program));
    for (program, name) in same.into_iter().chain(RENAMED) {
        let found = find(&folders, program)?;
        tree.program(&found, name)?;
        programs.push(found);
    }
    for library in debian::libraries(programs.iter().map(PathBuf::as_path), &folders)? {
        tree.program(&library, in_image(&folders, &library))?;
    }
    for folder in DATA {
        add_folder(tree, &find(&folders, folder)?, Path::new(folder))?;
    }
    for package in PACKAGES {
        let copyright = format!("/usr/share/doc/{package}/copyright");
        // Some packages of one source share the text of the first.
        if let Ok(found) = find(&folders, &copyright) {
            tree.file(copyright, Rights::READABLE, read(&found)?);
        }
    }
    for (folder, mode, owner) in WRITABLE {
        tree.folder(folder, Rights { mode, owner });
    }
    add_users(tree);
    Ok(())
}

/// OpenSMTPD asks for two users of its own.
fn add_users(tree: &mut Tree) {
    let users = format!(
        "root:x:0:0:root:/:/bin/sh\n\
         servers:x:{USER}:{USER}:servers:/data:/bin/sh\n\
         opensmtpd:x:101:101:opensmtpd:/:/sbin/nologin\n\
         opensmtpq:x:102:102:opensmtpq:/:/sbin/nologin\n"
    );
    let groups = format!("root:x:0:\nservers:x:{USER}:\nopensmtpd:x:101:\nopensmtpq:x:102:\n");
    tree.file("/etc/passwd", Rights::READABLE, users.into_bytes());
    tree.file("/etc/group", Rights::READABLE, groups.into_bytes());
}

/// The place of a path of the image in the package that has it.
fn find(folders: &[PathBuf], path: &str) -> Result<PathBuf> {
    let mut places = folders
        .iter()
        .map(|folder| folder.join(path.trim_start_matches('/')));
    places
        .find(|place| place.exists())
        .with_context(|| format!("no package has {path}"))
}

/// The path in the image of a file of a package, or of this machine.
fn in_image(folders: &[PathBuf], file: &Path) -> PathBuf {
    let inside = folders
        .iter()
        .find_map(|folder| file.strip_prefix(folder).ok());
    inside.map_or_else(|| file.to_owned(), |path| Path::new("/").join(path))
}

fn add_folder(tree: &mut Tree, from: &Path, to: &Path) -> Result<()> {
    let context = || format!("cannot read {}", from.display());
    for entry in std::fs::read_dir(from).with_context(context)? {
        let entry = entry.with_context(context)?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            add_folder(tree, &from, &to)?;
        } else if from.exists() {
            tree.file(to, Rights::READABLE, read(&from)?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_packages_and_of_the_machine_have_their_own_paths_in_the_image() {
        let folders = [
            PathBuf::from("/cache/libpq5_15"),
            "/cache/libpam0g_1".into(),
        ];
        let path = |file: &str| in_image(&folders, Path::new(file));
        assert_eq!(
            path("/cache/libpam0g_1/lib/libpam.so.0"),
            Path::new("/lib/libpam.so.0")
        );
        assert_eq!(
            path("/lib64/ld-linux.so.2"),
            Path::new("/lib64/ld-linux.so.2")
        );
    }
}
