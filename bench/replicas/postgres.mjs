// A PostgreSQL of its own, on a host of the network.
import { execFileSync, spawnSync } from "node:child_process"
import { appendFileSync, chownSync, existsSync, mkdirSync, readdirSync } from "node:fs"
import { delimiter, join } from "node:path"

const folders = () => {
  const debian = "/usr/lib/postgresql"
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  return [...(process.env.PATH ?? "").split(delimiter), ...versions.map((version) => join(debian, version, "bin"))]
}

/** PostgreSQL refuses to run as root. */
const user = () => {
  if (process.getuid?.() !== 0) return undefined
  for (const name of ["postgres", "nobody"]) {
    try {
      const id = (flag) =>
        Number(execFileSync("id", [flag, name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }))
      return { uid: id("-u"), gid: id("-g") }
    } catch {}
  }
  return undefined
}

export const make = async (network, host, folder, port) => {
  const bin = folders().find((one) => existsSync(join(one, "initdb")) && existsSync(join(one, "postgres")))
  if (bin === undefined) throw new Error("there is no PostgreSQL on PATH")
  const home = join(folder, "postgres")
  mkdirSync(home)
  const as = user()
  if (as !== undefined) {
    chownSync(folder, as.uid, as.gid)
    chownSync(home, as.uid, as.gid)
  }
  const data = join(home, "data")
  const options = { cwd: home, ...as, stdio: ["ignore", "ignore", "pipe"] }
  execFileSync(
    join(bin, "initdb"),
    ["-D", data, "-U", "aicortex", "--auth=trust", "-N", "-E", "UTF8", "--locale=C.UTF-8"],
    options
  )
  appendFileSync(join(data, "pg_hba.conf"), "\nhost all all 0.0.0.0/0 trust\n")
  const settings = ["listen_addresses=*", "unix_socket_directories=", "max_connections=200"]
  const args = ["-D", data, "-p", String(port), ...settings.flatMap((one) => ["-c", one])]
  let child
  const start = () =>
    new Promise((resolve, reject) => {
      const drop = as === undefined ? [] : ["setpriv", `--reuid=${as.uid}`, `--regid=${as.gid}`, "--clear-groups"]
      const [command, ...rest] = [...drop, join(bin, "postgres"), ...args]
      child = network.start(host, command, rest, { cwd: home, stdio: ["ignore", "ignore", "pipe"] })
      let log = ""
      child.stderr.on("data", (text) => {
        log += text
        if (log.includes("database system is ready to accept connections")) resolve()
      })
      child.once("exit", (code) => reject(new Error(`postgres ended (${code}): ${log}`)))
    })
  const stop = () =>
    new Promise((resolve) => {
      if (child.exitCode !== null) return resolve()
      child.once("exit", () => resolve())
      child.kill("SIGINT")
    })
  // Its processes are in groups of their own. While it stands still it starts no further ones.
  const signalAll = (signal) => {
    process.kill(child.pid, signal)
    const children = spawnSync("pgrep", ["-P", String(child.pid)], { encoding: "utf8" }).stdout
    for (const pid of children.split("\n").filter((line) => line !== "")) process.kill(Number(pid), signal)
  }
  await start()
  return {
    url: `postgres://aicortex@${network.host(host)}:${port}/postgres`,
    start,
    stop,
    /** It and all its connections stand still, as where a disk hangs, until `resume`. */
    pause: () => signalAll("SIGSTOP"),
    resume: () => signalAll("SIGCONT"),
    kill: () => child.kill("SIGKILL")
  }
}
