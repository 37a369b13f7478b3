#!/usr/bin/env python3
"""terminal.py COMMAND…: runs a command that gives a shell on a terminal, asks the shell for the terminal's size before and
after it is changed, and ends the shell with code 5. Prints what the shell answered, and ends as the command ends."""
import fcntl, os, pty, select, signal, struct, sys, termios, time

LIMIT = 40


def set_size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


pid, fd = pty.fork()
if pid == 0:
    set_size(0, 24, 80)
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b""


def read_until(wanted):
    """Reads until the text was seen; asks again as long as nothing comes, for a first line may come too early."""
    global seen
    end = time.time() + LIMIT
    while wanted not in seen:
        if time.time() > end:
            sys.exit(f"never saw {wanted!r} in {seen!r}")
        if select.select([fd], [], [], 1)[0]:
            try:
                seen += os.read(fd, 4096)
            except OSError:
                sys.exit(f"it ended before {wanted!r}: {seen!r}")


def ask(question, answer):
    """Asks until the answer comes: a size arrives a moment after it was set."""
    global seen
    end = time.time() + LIMIT
    while True:
        seen = b""
        os.write(fd, question + b"; echo en''d\n")
        read_until(b"\r\nend\r\n" if b"\r\nend\r\n" in seen else b"end\r\n")
        if answer in seen:
            return print(answer.decode())
        if time.time() > end:
            sys.exit(f"{question!r} never gave {answer!r}, but {seen!r}")
        time.sleep(0.2)


os.write(fd, b"\n")
read_until(b"# ")
ask(b"stty size", b"24 80")
set_size(fd, 40, 100)
os.kill(pid, signal.SIGWINCH)
ask(b"stty size", b"40 100")
ask(b"test -t 0 && test -t 1 && echo ter''minal", b"terminal")
os.write(fd, b"exit 5\n")
try:
    while os.read(fd, 4096):
        pass
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
