"""Runs a program on a pseudo-terminal: COLUMNS ROWS PROGRAM ARGUMENT...

Standard output is what the program writes to it. Each line of standard input is JSON: {"type": TEXT} types a text, and
{"size": [COLUMNS, ROWS]} changes the size. The exit code is the program's.
"""
import fcntl, json, os, pty, select, struct, sys, termios


def resize(fd, columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


pid, fd = pty.fork()
if pid == 0:
    resize(1, int(sys.argv[1]), int(sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])

sources = [fd, 0]
commands = b""
unsent = b""
while True:
    readable, writable, _ = select.select(sources, [fd] if unsent else [], [])
    if 0 in readable:
        read = os.read(0, 65536)
        if not read:
            # The test has ended.
            os.close(fd)
            break
        commands += read
        *lines, commands = commands.split(b"\n")
        for line in lines:
            command = json.loads(line)
            if "type" in command:
                unsent += command["type"].encode()
            else:
                resize(fd, *command["size"])
    if fd in writable:
        # A terminal takes only so much at once.
        unsent = unsent[os.write(fd, unsent[:1024]) :]
    if fd in readable:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        os.write(1, data)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
