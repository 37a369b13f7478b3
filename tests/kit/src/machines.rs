//! Several machines on one: each a network, mount, PID and UTS namespace of its own behind one switch, with no way out.
//!
//! A machine lives as long as its first process, which ends when the test does, however that ends: the kernel then
//! kills all that ran there and takes mounts, links and rules with it. What stays is the data directory, as on a disk.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::kubectl::Kubectl;
use crate::net::run;

/// What a namespace's first process does: says its word, reaps orphans, ends when its input ends.
const FIRST_PROCESS: &str = "exec 3<&0; cat <&3 >/dev/null & echo up; wait $!";

/// The first process of a set of namespaces; its death is theirs.
struct First {
    launcher: Child,
    /// Closed when the test ends, and the namespaces with it.
    _life: ChildStdin,
    pid: i32,
}

impl First {
    /// Starts a process in new namespaces, the kinds of which are `unshare`'s arguments.
    fn start(kinds: &[&str], setup: &str) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(kinds).args(["--pid", "--fork", "--kill-child", "--", "/bin/sh", "-ec"]);
        command.arg(format!("{setup}\n{FIRST_PROCESS}")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut launcher = command.spawn().context("start unshare")?;
        let life = launcher.stdin.take().context("the machine's standard input")?;
        let output = launcher.stdout.take().context("the machine's standard output")?;
        let mut word = String::new();
        BufReader::new(output).read_line(&mut word).context("wait for the machine")?;
        let parent = launcher.id();
        let mut first = Self { launcher, _life: life, pid: 0 };
        if word != "up\n" {
            bail!("the machine did not start");
        }
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let children = children.context("find the machine's first process")?;
        first.pid = children.trim().parse().context("one first process")?;
        Ok(first)
    }

    fn end(&mut self) {
        // It may have ended by itself; either way all of it is gone after this.
        if let Err(error) = self.launcher.kill().and_then(|()| self.launcher.wait()) {
            eprintln!("end a machine: {error}");
        }
        // The launcher's end kills the first process; the namespace is empty when that is gone.
        while self.pid > 0 && Path::new(&format!("/proc/{}", self.pid)).exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for First {
    fn drop(&mut self) {
        self.end();
    }
}

/// Machines on one switch, 172.31.99.0/24. The first is the one that kubectl is run on.
pub struct Machines {
    machines: Vec<Machine>,
    switch: First,
    home: TempDir,
    cox: PathBuf,
}

/// One of the machines.
pub struct Machine {
    pub name: String,
    pub ip: String,
    /// Its disk.
    pub dir: PathBuf,
    first: Option<First>,
}

impl Machines {
    /// Switches on machines `m1`, `m2`, …; nothing runs on them. `cox` is the program's file.
    pub fn new(cox: impl AsRef<Path>, count: usize) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("cox-test-").tempdir().context("make a folder for the machines")?;
        let switch = First::start(&["--net"], "ip link add switch type bridge; ip link set switch up")?;
        let mut all = Self { machines: Vec::new(), switch, home, cox: cox.as_ref().to_owned() };
        for number in 1..=count {
            let name = format!("m{number}");
            let dir = all.home.path().join(&name);
            std::fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
            all.machines.push(Machine { name, ip: format!("172.31.99.{number}"), dir, first: None });
            all.boot(number)?;
        }
        Ok(all)
    }

    /// A machine by its number, from 1.
    pub fn machine(&self, number: usize) -> &Machine {
        &self.machines[number - 1]
    }

    /// Switches a machine on.
    pub fn boot(&mut self, number: usize) -> Result<()> {
        let switch = self.switch.pid;
        let machine = &mut self.machines[number - 1];
        let setup = format!("mount -t tmpfs run /run; hostname {}; ip link set lo up", machine.name);
        let first = First::start(&["--net", "--mount", "--uts", "--mount-proc"], &setup)?;
        let (port, pid) = (format!("port{number}"), first.pid.to_string());
        // A network is taken apart a while after its last process has ended: its cable may still be there.
        if run(in_network(switch, "ip").args(["link", "show", &port])).is_ok() {
            run(in_network(switch, "sh").args(["-c", &format!("ip link delete {port} || ! ip link show {port}")]))?;
        }
        let plug = ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid];
        run(in_network(switch, "ip").args(plug))?;
        run(in_network(switch, "ip").args(["link", "set", &port, "master", "switch", "up"]))?;
        let address = format!("{}/24", machine.ip);
        // A machine keeps its network card: others go on knowing it after a power cut.
        let card = format!("02:00:00:00:63:{number:02x}");
        let steps: [&[&str]; 4] = [
            &["link", "set", "eth0", "address", &card],
            &["address", "add", &address, "dev", "eth0"],
            &["link", "set", "eth0", "up"],
            &["route", "add", "blackhole", "default"],
        ];
        for step in steps {
            run(in_network(first.pid, "ip").args(step))?;
        }
        machine.first = Some(first);
        Ok(())
    }

    /// Cuts a machine's power: every process of it is gone at once, and with them mounts, links and rules.
    pub fn cut_power(&mut self, number: usize) {
        self.machines[number - 1].first = None;
    }

    /// Takes a machine's cable out of the switch.
    pub fn unplug(&self, number: usize) -> Result<()> {
        run(in_network(self.switch.pid, "ip").args(["link", "set", &format!("port{number}"), "nomaster"])).map(drop)
    }

    /// Puts the cable back.
    pub fn plug(&self, number: usize) -> Result<()> {
        let port = format!("port{number}");
        run(in_network(self.switch.pid, "ip").args(["link", "set", &port, "master", "switch"])).map(drop)
    }

    /// A command of the cluster's own on a machine: `cox WORDS --data-dir …`.
    pub fn cox(&self, number: usize, words: &[&str]) -> Result<Command> {
        let machine = self.machine(number);
        let mut command = machine.command(&self.cox)?;
        command.args(words).arg("--data-dir").arg(machine.data()).env("HOME", self.home.path());
        Ok(command)
    }

    /// The real kubectl on the first machine, as the cluster's administrator.
    pub fn kubectl(&self) -> Result<Kubectl> {
        let first = self.machine(1);
        let entry = first.entry()?;
        Ok(Kubectl { entry, kubeconfig: first.data().join("kubeconfig"), home: self.home.path().to_owned() })
    }

    /// A folder for the test's own files, removed with the machines.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

/// A command in the network of a process.
fn in_network(pid: i32, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net")).arg("--").arg(program);
    command
}

impl Machine {
    /// The cluster's data directory on it.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn entry(&self) -> Result<Vec<String>> {
        let first = self.first.as_ref().with_context(|| format!("machine {} is switched off", self.name))?;
        let words = ["nsenter", "--target", &first.pid.to_string(), "--net", "--mount", "--uts", "--pid", "--"];
        Ok(words.map(str::to_owned).to_vec())
    }

    /// A command that will run on it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let entry = self.entry()?;
        let mut command = Command::new(&entry[0]);
        command.args(&entry[1..]).arg(program);
        Ok(command)
    }

    /// The end of what cox logged on it.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.data().join("log/cox.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for machine in &self.machines {
                eprintln!("the log of {} ends:\n{}", machine.name, machine.log());
            }
        }
        let all = 1..=self.machines.len();
        all.clone().for_each(|number| self.cut_power(number));
        for number in all {
            if let Err(error) = self.clean(number) {
                eprintln!("control groups of machine {number} may be left behind: {error:#}");
            }
        }
    }
}

impl Machines {
    /// Namespaces go with their processes, files with the folder; control groups need a reset.
    fn clean(&mut self, number: usize) -> Result<()> {
        if !self.machine(number).data().exists() {
            return Ok(());
        }
        self.boot(number)?;
        run(&mut self.cox(number, &["reset", "--yes"])?).map(drop)
    }
}
