//! A stand-in for VirtualBox: its VBoxManage, as far as the driver uses it, with the words of the real one where it fails, and its
//! VBoxHeadless, a process that listens where the machine's forwards are and runs no guest.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use crate::books::{Books, Vm, change, knobs, wait};

type Said = Result<String, String>;

/// VBoxManage.
pub(crate) fn manage(dir: &Path, args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let knobs = knobs(dir);
    print!("{}", knobs.warning);
    if words.first() == Some(&knobs.hang.as_str()) {
        thread::sleep(Duration::from_secs(600));
    }
    let said = match words.first() {
        Some(verb) if *verb == knobs.fail.0 => Err(knobs.fail.1),
        Some(&"--version") if knobs.version.is_empty() => Ok("7.2.22_Debianr175245\n".to_owned()),
        Some(&"--version") => Ok(knobs.version),
        Some(&("startvm" | "controlvm")) => run(dir, &words),
        _ => change(dir, |books| book(books, &words)),
    };
    match said {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("VBoxManage: error: {text}");
            ExitCode::FAILURE
        }
    }
}

/// What only changes the books.
fn book(books: &mut Books, words: &[&str]) -> Said {
    match words {
        ["list", "hdds"] => Ok(list(books)),
        ["showvminfo", uuid, "--machinereadable"] => show(books, uuid),
        [
            "createvm",
            "--name",
            name,
            "--uuid",
            uuid,
            "--basefolder",
            folder,
            ..,
        ] => create(books, name, uuid, folder),
        ["unregistervm", uuid] => {
            let vm = books.vms.remove(*uuid).ok_or_else(|| unknown(uuid))?;
            for port in vm.ports.values() {
                forget(books, port);
            }
            Ok(String::new())
        }
        ["modifyvm", uuid, options @ ..] => {
            let vm = stopped(books, uuid)?;
            nat(vm, options)
        }
        ["storagectl", uuid, "--name", name, ..] => {
            stopped(books, uuid)?.controllers.push((*name).to_owned());
            Ok(String::new())
        }
        ["storageattach", uuid, rest @ ..] => attach(books, uuid, rest),
        [
            "createmedium",
            "disk",
            "--filename",
            file,
            "--diffparent",
            base,
            ..,
        ] => layer(books, file, base),
        ["closemedium", "disk", uuid] => close(books, uuid),
        other => Err(format!("the stand-in does not know {other:?}")),
    }
}

fn unknown(uuid: &str) -> String {
    format!(
        "Could not find a registered machine with UUID {{{uuid}}}\nVBoxManage: error: Details: code \
         VBOX_E_OBJECT_NOT_FOUND (0x80bb0001), component VirtualBoxWrap, interface IVirtualBox"
    )
}

fn stopped<'a>(books: &'a mut Books, uuid: &str) -> Result<&'a mut Vm, String> {
    let vm = books.vms.get_mut(uuid).ok_or_else(|| unknown(uuid))?;
    if matches!(vm.state.as_str(), "poweroff" | "aborted") {
        return Ok(vm);
    }
    Err(format!(
        "The machine '{}' is already locked by a session (or being locked or unlocked)\nVBoxManage: error: Details: code \
         VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)",
        vm.name
    ))
}

fn create(books: &mut Books, name: &str, uuid: &str, folder: &str) -> Said {
    let vm = Vm {
        name: name.to_owned(),
        folder: folder.into(),
        state: "poweroff".to_owned(),
        ..Vm::default()
    };
    let settings = vm.settings();
    if settings.exists() || books.vms.contains_key(uuid) {
        return Err(format!(
            "Machine settings file '{}' already exists",
            settings.display()
        ));
    }
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::write(&settings, "<VirtualBox/>").unwrap();
    books.vms.insert(uuid.to_owned(), vm);
    Ok(format!("Virtual machine '{name}' is created and registered.\n"))
}

fn show(books: &Books, uuid: &str) -> Said {
    let vm = books.vms.get(uuid).ok_or_else(|| unknown(uuid))?;
    let settings = vm.settings();
    if vm.state == "poweroff" && !settings.exists() {
        return Err(
            "The object functionality is limited\nVBoxManage: error: Details: code E_ACCESSDENIED (0x80070005)".to_owned(),
        );
    }
    let mut text = format!(
        "name=\"{}\"\nCfgFile=\"{}\"\nVMState=\"{}\"\n",
        vm.name,
        settings.display(),
        vm.state
    );
    for (number, name) in vm.controllers.iter().enumerate() {
        text.push_str(&format!("storagecontrollername{number}=\"{name}\"\n"));
    }
    for (port, path) in &vm.ports {
        text.push_str(&format!("\"disks-{port}-0\"=\"{}\"\n", path.display()));
    }
    for (number, (name, rule)) in vm.rules.iter().enumerate() {
        text.push_str(&format!("Forwarding({number})=\"{name},{rule}\"\n"));
    }
    Ok(text)
}

fn list(books: &Books) -> String {
    let row = |(path, (uuid, _)): (&PathBuf, &(String, Option<String>))| {
        format!("UUID:           {uuid}\nLocation:       {}\n\n", path.display())
    };
    books.media.iter().map(row).collect()
}

/// `--natpf1 RULE` and `--natpf1 delete NAME` among other options.
fn nat(vm: &mut Vm, options: &[&str]) -> Said {
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if *option != "--natpf1" && *option != "natpf1" {
            continue;
        }
        let rule = options.next().unwrap();
        if *rule == "delete" {
            let name = options.next().unwrap();
            vm.rules
                .remove(*name)
                .ok_or("Code NS_ERROR_INVALID_ARG (0x80070057)")?;
            continue;
        }
        let (name, rule) = rule.split_once(',').unwrap();
        if vm.rules.insert(name.to_owned(), rule.to_owned()).is_some() {
            return Err("A NAT rule of this name already exists".to_owned());
        }
    }
    Ok(String::new())
}

fn attach(books: &mut Books, uuid: &str, rest: &[&str]) -> Said {
    let option = |name: &str| {
        let at = rest.iter().position(|word| *word == name)?;
        rest.get(at + 1).copied()
    };
    let port: u32 = option("--port").unwrap().parse().unwrap();
    let path = PathBuf::from(option("--medium").unwrap());
    let vm = stopped(books, uuid)?;
    if path == Path::new("none") {
        vm.ports.remove(&port);
        return Ok(String::new());
    }
    let folder = vm.folder.join(&vm.name);
    let text = fs::read_to_string(&path).map_err(|_| {
        format!(
            "Could not find file for the medium '{}' (VERR_FILE_NOT_FOUND)",
            path.display()
        )
    })?;
    let mut attached = path.clone();
    match text.strip_prefix("layer over ") {
        Some(below) if !books.media.values().any(|(uuid, _)| uuid == below) => {
            return Err(format!(
                "Parent medium with UUID {{{below}}} of the medium '{}' is not found",
                path.display()
            ));
        }
        Some(below) => books
            .media
            .insert(path, (format!("of-{uuid}-{port}"), Some(below.to_owned()))),
        None => {
            let own = image_uuid(&text);
            if option("--mtype") == Some("immutable") {
                attached = folder.join("Snapshots").join(format!("{own}.vmdk"));
                books
                    .media
                    .insert(attached.clone(), (format!("layer-{own}"), Some(own.clone())));
            }
            books.media.insert(path, (own, None))
        }
    };
    let vm = stopped(books, uuid)?;
    vm.ports.insert(port, attached);
    Ok(String::new())
}

fn image_uuid(descriptor: &str) -> String {
    let (_, rest) = descriptor.split_once("ddb.uuid.image=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

fn layer(books: &mut Books, file: &str, base: &str) -> Said {
    let path = PathBuf::from(file);
    if path.exists() || books.media.contains_key(&path) {
        return Err(format!("VDI: cannot create image '{file}' (VERR_ALREADY_EXISTS)"));
    }
    let below = image_uuid(&fs::read_to_string(base).map_err(|error| format!("{base}: {error}"))?);
    fs::write(&path, format!("layer over {below}")).unwrap();
    books.media.insert(base.into(), (below.clone(), None));
    books
        .media
        .insert(path, (format!("disk-over-{below}"), Some(below)));
    Ok(String::new())
}

fn close(books: &mut Books, uuid: &str) -> Said {
    let path = books
        .media
        .iter()
        .find(|(_, medium)| medium.0 == uuid)
        .map(|(path, _)| path.clone());
    let path = path.ok_or_else(|| format!("Could not find an open hard disk with UUID {{{uuid}}}"))?;
    let has_layers = books
        .media
        .values()
        .any(|(_, below)| below.as_deref() == Some(uuid));
    let is_attached = books
        .vms
        .values()
        .any(|vm| vm.ports.values().any(|at| *at == path));
    if has_layers || is_attached {
        return Err(format!(
            "Cannot close medium '{}': code VBOX_E_OBJECT_IN_USE (0x80bb000c)",
            path.display()
        ));
    }
    books.media.remove(&path);
    Ok(String::new())
}

/// A layer and what is below it.
fn forget(books: &mut Books, path: &Path) {
    if let Some((_, Some(below))) = books.media.remove(path) {
        books.media.retain(|_, (uuid, _)| *uuid != below);
    }
}

/// What needs the machine's process.
#[expect(
    clippy::zombie_processes,
    reason = "this process ends before the one that it starts"
)]
fn run(dir: &Path, words: &[&str]) -> Said {
    let uuid = words.get(1).copied().unwrap_or_default();
    let find = |books: &mut Books| books.vms.get(uuid).cloned().ok_or_else(|| unknown(uuid));
    let vm = change(dir, find)?;
    let becomes = |what: &str, state: &str| {
        wait(dir, what, |books| {
            books.vms.get(uuid).is_some_and(|vm| vm.state == state)
        });
        Ok(String::new())
    };
    if words[0] == "startvm" {
        change(dir, |books| stopped(books, uuid).map(drop))?;
        let _child = Command::new(dir.join("VBoxHeadless"))
            .args(["--comment", &vm.name, "--startvm", uuid, "--vrde", "config"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        return becomes("the machine starts", "running");
    }
    if !matches!(vm.state.as_str(), "running" | "paused" | "gurumeditation") {
        return Err(format!("Machine '{uuid}' is not currently running."));
    }
    let set = |state: &str| {
        change(dir, |books| {
            if let Some(vm) = books.vms.get_mut(uuid) {
                vm.state = state.to_owned();
            }
        });
    };
    match words[2..] {
        ["acpipowerbutton"] => Ok(String::new()),
        ["poweroff"] => {
            set("stopping");
            becomes("the machine ends", "poweroff")
        }
        ["resume"] => {
            set("running");
            Ok(String::new())
        }
        ["natpf1", ..] => {
            let vm = change(dir, |books| {
                let vm = books.vms.get_mut(uuid).ok_or_else(|| unknown(uuid))?;
                nat(vm, &words[2..])?;
                Ok::<_, String>(vm.clone())
            })?;
            let names: Vec<&String> = vm.rules.keys().collect();
            wait(dir, "the ports change", |books| {
                books
                    .vms
                    .get(uuid)
                    .is_some_and(|vm| vm.bound.iter().collect::<Vec<_>>() == names)
            });
            Ok(String::new())
        }
        ref other => Err(format!("the stand-in does not know {other:?}")),
    }
}

/// What listens for a rule; real ones that cannot listen say so only in a log.
enum Listener {
    Open(#[expect(dead_code, reason = "held for as long as it is open")] Box<dyn std::any::Any>),
    Nothing,
}

fn listen(rule: &str) -> Listener {
    let fields: Vec<&str> = rule.split(',').collect();
    let at = format!("{}:{}", fields[1], fields[2]);
    let listener = match fields[0] {
        "tcp" => TcpListener::bind(at).map(|socket| Listener::Open(Box::new(socket))),
        _ => UdpSocket::bind(at).map(|socket| Listener::Open(Box::new(socket))),
    };
    listener.unwrap_or(Listener::Nothing)
}

/// VBoxHeadless: listens as the machine's rules say, until it shall stop or the books are gone.
pub(crate) fn headless(dir: &Path, args: &[String]) -> ExitCode {
    let uuid = args
        .iter()
        .skip_while(|word| *word != "--startvm")
        .nth(1)
        .unwrap()
        .clone();
    let mut listeners: BTreeMap<String, Listener> = BTreeMap::new();
    let mut began = false;
    while dir.join("books.json").exists() {
        let goes_on = change(dir, |books| {
            let Some(vm) = books.vms.get_mut(&uuid) else {
                return false;
            };
            if !began {
                (began, vm.pid, vm.state) = (true, std::process::id(), "running".to_owned());
            }
            if vm.state == "stopping" {
                listeners.clear();
                vm.bound.clear();
                vm.state = "poweroff".to_owned();
                return false;
            }
            listeners.retain(|name, _| vm.rules.contains_key(name));
            for (name, rule) in &vm.rules {
                listeners.entry(name.clone()).or_insert_with(|| listen(rule));
            }
            vm.bound = listeners.keys().cloned().collect();
            true
        });
        if !goes_on {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    ExitCode::SUCCESS
}
