import { randomInt } from "node:crypto"
import { existsSync, mkdirSync, readdirSync, readFileSync, watch, writeFileSync } from "node:fs"
import { createServer, type RequestListener } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { Ajv } from "ajv"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { build, ended, type Home, makeHome } from "../support/cliProcess.js"
import { unusedPort } from "../support/fakeServer.js"

beforeAll(build, 600_000)

type Row = Record<string, unknown>

const closers: Array<() => void> = []
afterAll(() => {
  for (const close of closers) close()
})

/** A server on loopback, and the paths that it was asked for. */
const serve = async (answer: RequestListener) => {
  const paths: Array<string | undefined> = []
  const server = createServer((request, response) => {
    paths.push(request.url)
    answer(request, response)
  })
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve))
  closers.push(() => {
    server.close()
    server.closeAllConnections()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, paths }
}

const at =
  (path: string, body: unknown): RequestListener =>
  (request, response) => {
    const found = request.url === path
    response.writeHead(found ? 200 : 404, { "content-type": "application/json" })
    response.end(found ? JSON.stringify(body) : "404 page not found")
  }

const ollama = (...models: ReadonlyArray<unknown>) => serve(at("/api/tags", { models }))

const tag = (name: string, details: unknown = { family: "llama", parameter_size: "3.2B" }, digest = `d-${name}`) => ({
  name,
  model: name,
  modified_at: "2026-01-02T03:04:05Z",
  size: 2_019_393_189,
  digest,
  details
})

const filesBelow = (folder: string): ReadonlyArray<string> =>
  (readdirSync(folder, { recursive: true, encoding: "utf8" }) as Array<string>).sort()

const rowsOf = (file: string): ReadonlyArray<Row> => JSON.parse(readFileSync(file, "utf8")).models

const registryRows = (folder: string) =>
  readdirSync(folder).flatMap((name) => (name === "servers.json" ? [] : rowsOf(join(folder, name))))

/** Runs a command that must succeed. */
const succeed = async (home: Home, args: ReadonlyArray<string>, input?: string) => {
  const { code, err, out } = await home.run(["registry", ...args], {}, input)
  assert.strictEqual(code, 0, err)
  return { out, err }
}

const failWith = async (home: Home, args: ReadonlyArray<string>, input?: string) => {
  const { code, err } = await home.run(["registry", ...args], {}, input)
  assert.strictEqual(code, 1, err)
  return err
}

describe("aicortex registry refresh over 40 servers", { timeout: 300_000 }, () => {
  it("records valid models, skips the rest with its reason, and writes nothing elsewhere", async () => {
    await using home = makeHome()
    const registry = join(home.path, "registry")
    const good = await Promise.all(
      Array.from({ length: 18 }, (_, i) => ollama(tag(`llama3.${i}:3b`), tag("qwen2.5:7b")))
    )
    const openai = await Promise.all(
      Array.from({ length: 4 }, () =>
        serve(at("/v1/models", { object: "list", data: [{ id: "mistral-small", object: "model" }] }))
      )
    )
    const nulls = await Promise.all(
      Array.from({ length: 2 }, () => ollama(tag("gemma3:4b", null), null, 7, { name: null }))
    )
    const hostile = await Promise.all(
      ["../../x", "/etc/cron.d/x", "..\\x"].map((family) =>
        ollama(tag("nemo:1b", { family }), tag("../../../y", { family }), tag("a\u001b[2Jb", { family }))
      )
    )
    const trap = await ollama(tag("trap:1b"))
    const bad: Array<readonly [url: string, reason: RegExp]> = []
    const reject = async (times: number, make: () => Promise<{ readonly url: string }>, reason: RegExp) => {
      for (let i = 0; i < times; i++) bad.push([(await make()).url, reason])
    }
    await reject(3, async () => ({ url: `http://127.0.0.1:${await unusedPort()}` }), /refused the connection/)
    await reject(2, () => serve(() => {}), /did not say within 3 s/)
    await reject(2, () => serve((_, response) => response.writeHead(302, { location: trap.url }).end()), /redirect/)
    await reject(2, () => serve((_, response) => response.end("<html>Welcome</html>")), /something else than a list/)
    await reject(1, () => serve((_, response) => response.writeHead(500).end()), /HTTP 500/)
    await reject(1, () => serve((_, response) => response.writeHead(401).end()), /key is missing or wrong/)
    // Without end.
    const endless: RequestListener = (_, response) => {
      const block = Buffer.alloc(256 * 1024, 32)
      const more = () => {
        while (!response.destroyed && response.write(block));
      }
      response.on("drain", more)
      more()
    }
    await reject(2, () => serve(endless), /more than|did not say within|connection/)

    const servers = [...good, ...openai, ...nulls, ...hostile]
    const urls = [...servers.map(({ url }) => url), ...bad.map(([url]) => url)]
    assert.lengthOf(urls, 40)
    const list = home.write("addresses.txt", `# mine\n${urls.join("\n")}\n${urls[0]}/api/tags\n`)
    const before = filesBelow(home.path)
    const { out } = await succeed(home, ["refresh", list, "--registry", registry, "--timeout", "3", "--json"])
    const report = JSON.parse(out)

    assert.deepEqual(
      filesBelow(home.path).filter((name) => !before.includes(name)),
      ["registry", ...["gemma", "llama", "mistral", "others", "qwen"].map((name) => `registry/${name}.json`)]
    )
    const rows = registryRows(registry)
    const expected = [
      ...good.flatMap(({ url }, i) => [`${url} llama3.${i}:3b llama`, `${url} qwen2.5:7b qwen`]),
      ...openai.map(({ url }) => `${url} mistral-small mistral`),
      ...nulls.map(({ url }) => `${url} gemma3:4b gemma`),
      ...hostile.flatMap(({ url }) => [`${url} nemo:1b others`, `${url} ../../../y others`])
    ]
    assert.sameMembers(
      rows.map(({ family, ip_port: url, model_name: model }) => `${url} ${model} ${family}`),
      expected
    )
    const llama = rows.find(({ ip_port: url, family }) => url === good[0]?.url && family === "llama")
    assert.deepInclude(llama, {
      model: "llama3.0:3b",
      size: "2019393189",
      digest: "d-llama3.0:3b",
      parameter_size: "3.2B",
      modified_at: "2026-01-02T03:04:05Z",
      generation: 3,
      perf_tokens_per_second: null
    })
    assert.strictEqual(rows.find(({ family }) => family === "mistral")?.["protocol"], "openai")

    for (const [url, reason] of bad) {
      const told = report.rejected.filter(({ source }: Row) => source === url)
      assert.lengthOf(told, 1, url)
      assert.match(told[0].reason, reason)
    }
    assert.strictEqual(report.rejected.filter(({ reason }: Row) => /control characters/.test(String(reason))).length, 3)
    assert.deepEqual(trap.paths, [])
  })
})

describe("the steps one by one", { timeout: 300_000 }, () => {
  it("through files by default, and through pipes, give the result of refresh", async () => {
    await using home = makeHome()
    const { url } = await ollama(tag("llama3.2:3b"), tag("phi4:14b", { family: "phi3" }))
    const other = await serve((_, response) => response.end("It works!"))
    const registry = join(home.path, "models")
    mkdirSync(registry)
    const old = { id: "kept", model_name: "llama3.2:3b", ip_port: url, date_added: "2025", perf_tokens_per_second: "9" }
    writeFileSync(join(registry, "llama.json"), JSON.stringify([old, { model_name: "x", ip_port: other.url }]))

    const checked = await succeed(home, ["check", registry, "--output", "-"])
    assert.strictEqual(checked.out, `${url}/api/tags\n`)
    assert.match(checked.err, new RegExp(`left out: ${other.url}: answered .*something else than a list of models`))
    const fetched = await succeed(home, ["fetch", "-", "-o", "-"], checked.out)
    const [entry] = JSON.parse(fetched.out)
    assert.strictEqual(entry.source_url, `${url}/api/tags`)
    assert.deepEqual(
      entry.models.map(({ name }: Row) => name),
      ["llama3.2:3b", "phi4:14b"]
    )
    const resolved = await succeed(home, ["resolve", "-", "-o", "-", "--registry", registry], fetched.out)
    const shown = await succeed(home, ["apply", "-", "--registry", registry, "--dry-run"], resolved.out)
    assert.include(shown.out, `+ phi4:14b ${url}`)
    assert.include(shown.out, `- x ${other.url}`)
    assert.deepEqual(readdirSync(registry), ["llama.json"])
    await succeed(home, ["apply", "-", "--registry", registry, "--backup"], resolved.out)
    assert.deepEqual(readdirSync(registry), ["llama.json", "others.json"])
    const [row] = rowsOf(join(registry, "llama.json"))
    assert.deepInclude(row, { id: "kept", date_added: "2025", perf_tokens_per_second: "9" })
    const [phi] = rowsOf(join(registry, "others.json"))
    assert.strictEqual(phi?.["perf_tokens_per_second"], null)

    const again = await succeed(home, ["refresh", "--registry", registry, "--json"])
    assert.deepInclude(JSON.parse(again.out), { changes: [], files: { written: [], removed: [] }, backup: null })
  })

  it("a missing folder, and servers that are all down, are failures that change nothing", async () => {
    await using home = makeHome()
    const missing = join(home.path, "none")
    assert.include(await failWith(home, ["check", missing, "-o", "-"]), missing)
    assert.include(await failWith(home, ["refresh", "--registry", missing]), missing)
    assert.isFalse(existsSync(missing))
    const off = `http://127.0.0.1:${await unusedPort()}`
    const valid = home.write("valid.txt", "before")
    assert.include(await failWith(home, ["check", off, "-o", valid]), "none of 1 server answered")
    assert.strictEqual(readFileSync(valid, "utf8"), "before")
  })

  it("an empty or much smaller result is refused without --force; backups restore everything", async () => {
    await using home = makeHome()
    const registry = join(home.path, "models")
    mkdirSync(registry)
    const rows = Array.from({ length: 6 }, (_, i) => ({
      model_name: `llama3:${i}b`,
      ip_port: `http://127.0.0.1:${i + 1}`
    }))
    const text = JSON.stringify(rows)
    writeFileSync(join(registry, "llama.json"), text)
    const args = ["apply", "-", "--backup", "--registry", registry]
    assert.include(await failWith(home, args, "[]"), "no record would be left")
    assert.include(await failWith(home, args, JSON.stringify(rows.slice(0, 2))), "only 2 of 6 records")
    assert.include(await failWith(home, args, '{"models":7}'), "not a list")
    assert.deepEqual(
      filesBelow(home.path).filter((name) => name.startsWith("models")),
      ["models", "models/llama.json"]
    )
    assert.strictEqual(readFileSync(join(registry, "llama.json"), "utf8"), text)

    await succeed(home, [...args, "--force"], JSON.stringify(rows.slice(0, 2)))
    await succeed(
      home,
      [...args, "--force"],
      JSON.stringify([{ model_name: "qwen3:4b", ip_port: "http://127.0.0.1:9" }])
    )
    assert.deepEqual(readdirSync(registry), ["qwen.json"])
    const backups = JSON.parse((await succeed(home, ["restore", "--registry", registry, "--list", "--json"])).out)
    assert.lengthOf(backups, 2)
    await succeed(home, ["restore", backups[1], "--registry", registry])
    assert.strictEqual(readFileSync(join(registry, "llama.json"), "utf8"), text)
    assert.deepEqual(readdirSync(registry), ["llama.json"])
    // What was restored over is a backup too, and the newest one.
    await succeed(home, ["restore", "--registry", registry])
    assert.deepEqual(readdirSync(registry), ["qwen.json"])
    const { code } = await home.run(["registry", "restore", "../models", "--registry", registry])
    assert.strictEqual(code, 2)
  })
})

describe("while servers are asked", { timeout: 300_000 }, () => {
  /** A server whose answers are released by the test, and the times of its requests. */
  const held = async (...models: ReadonlyArray<unknown>) => {
    let [tell, answer] = [() => {}, () => {}]
    const asked = new Promise<void>((resolve) => {
      tell = resolve
    })
    const released = new Promise<void>((resolve) => {
      answer = resolve
    })
    const listed = at("/api/tags", { models })
    const { url } = await serve((request, response) => {
      tell()
      void released.then(() => listed(request, response))
    })
    return { url, asked, answer }
  }

  it("additions of another process to the registry are kept", async () => {
    await using home = makeHome()
    const registry = join(home.path, "models")
    const server = await held(tag("llama3.2:3b"))
    const refreshed = ended(home.start(["registry", "refresh", server.url, "--registry", registry, "--timeout", "100"]))
    await server.asked
    const other = { model_name: "qwen3:4b", ip_port: "http://10.0.0.9:11434" }
    await succeed(home, ["import", home.write("other.json", JSON.stringify([other])), "--registry", registry])
    server.answer()
    const { code, err } = await refreshed
    assert.strictEqual(code, 0, err)
    assert.deepEqual(
      registryRows(registry).map(({ model_name: model }) => model),
      ["llama3.2:3b", "qwen3:4b"]
    )
  })

  it("Ctrl-C cancels it, and leaves the registry unchanged", async () => {
    await using home = makeHome()
    const registry = join(home.path, "models")
    mkdirSync(registry)
    const server = await held()
    const text = JSON.stringify([{ model_name: "llama3.2:3b", ip_port: server.url }])
    writeFileSync(join(registry, "llama.json"), text)
    const child = home.start(["registry", "refresh", "--registry", registry, "--timeout", "100"])
    const end = ended(child)
    await server.asked
    child.kill("SIGINT")
    assert.strictEqual((await end).code, 130)
    server.answer()
    assert.strictEqual(readFileSync(join(registry, "llama.json"), "utf8"), text)
    assert.deepEqual(
      filesBelow(home.path).filter((name) => name.startsWith("models")),
      ["models", "models/llama.json"]
    )
  })
})

describe("import and export", { timeout: 300_000 }, () => {
  it("family files, servers.json and URLs are imported, and exported in each format", async () => {
    await using home = makeHome()
    const registry = join(home.path, "models")
    const families = join(home.path, "families")
    mkdirSync(families)
    const row = {
      id: "7",
      ip_port: "http://10.0.0.1:11434",
      model_name: "llama3.2:3b",
      size: "12",
      ip_city_name_en: "Berlin",
      ip_country_iso_code: "DE",
      perf_tokens_per_second: "94.3"
    }
    writeFileSync(join(families, "llama.json"), JSON.stringify({ props: { pageProps: { models: [row] } } }))
    const servers = home.write(
      "mine.json",
      JSON.stringify({
        servers: [
          { url: "http://10.0.0.2:8000/v1", protocol: "openai", location: { city: "Paris" }, models: ["qwen3:4b"] }
        ]
      })
    )
    const list = home.write("list.txt", "http://10.0.0.3:11434\n10.0.0.1:11434\n")
    await succeed(home, ["import", families, servers, list, "--registry", registry])
    assert.deepEqual(readdirSync(registry), ["llama.json", "qwen.json", "servers.json"])

    const urls = await succeed(home, ["export", "--format", "urls", "--registry", registry])
    assert.strictEqual(urls.out, "http://10.0.0.1:11434\nhttp://10.0.0.2:8000/v1\nhttp://10.0.0.3:11434\n")

    const out = JSON.parse((await succeed(home, ["export", "--registry", registry])).out)
    const schema = JSON.parse(readFileSync(new URL("../../servers.schema.json", import.meta.url), "utf8"))
    const validate = new Ajv({ allErrors: true, strict: false }).compile(schema)
    assert.isTrue(validate(out), JSON.stringify(validate.errors))
    assert.isFalse(validate({ servers: [{ protocol: "openai" }] }))
    const first = out.servers.find(({ url }: Row) => url === "http://10.0.0.1:11434")
    assert.deepEqual(first.location, { city: "Berlin", country: "DE" })
    assert.deepInclude(first.models[0], {
      model_name: "llama3.2:3b",
      size: 12,
      performance: { tokens_per_second: 94.3 }
    })

    const written = join(home.path, "out")
    await succeed(home, ["export", "--format", "families", "-o", written, "--registry", registry])
    assert.deepEqual(readdirSync(written), ["llama.json", "qwen.json"])
    const [exported] = rowsOf(join(written, "llama.json"))
    assert.lengthOf(Object.keys(exported ?? {}), 37)
    assert.deepInclude(exported, row)
    // A registry of one's own reads them as they are.
    const models = await home.run(["models", "--family", "llama", "--json"], { AICORTEX_REGISTRY: written })
    assert.include(models.out, "llama3.2:3b")
  })
})

describe("a process that is killed", { timeout: 600_000 }, () => {
  it("at 20 moments leaves each file in its old or its new state", async () => {
    await using home = makeHome()
    const rows = (speed: string) =>
      ["llama3:8b", "qwen3:4b", "gemma3:4b"].flatMap((model) =>
        Array.from({ length: 1_500 }, (_, i) => ({
          id: `${i}`,
          model_name: model,
          ip_port: `http://10.0.${i >> 8}.${i & 255}:11434`,
          date_added: "2025",
          perf_tokens_per_second: speed
        }))
      )
    const input = home.write("new.json", JSON.stringify(rows("2")))
    const old = home.write("old.json", JSON.stringify(rows("1")))
    const template = join(home.path, "template")
    await succeed(home, ["apply", old, "--registry", template])
    const names = readdirSync(template)
    assert.deepEqual(names, ["gemma.json", "llama.json", "qwen.json"])
    const texts = new Map(names.map((name) => [name, readFileSync(join(template, name), "utf8")]))
    const started = performance.now()
    await succeed(home, ["apply", input, "--registry", template])
    const took = performance.now() - started
    const results = new Map(names.map((name) => [name, readFileSync(join(template, name), "utf8")]))

    let killed = 0
    for (let run = 0; run < 20; run++) {
      const folder = join(home.path, `registry-${run}`)
      mkdirSync(folder)
      for (const [name, text] of texts) writeFileSync(join(folder, name), text)
      const child = home.start(["registry", "apply", input, "--registry", folder, "--backup"])
      const end = ended(child)
      const kill = () => void child.kill("SIGKILL")
      // Half of them while it writes, which is a short part of the whole.
      const watcher = run % 2 === 0 ? watch(folder, () => setTimeout(kill, randomInt(20))) : undefined
      const timer = watcher === undefined ? setTimeout(kill, took * 0.4 + randomInt(Math.ceil(took * 0.6))) : undefined
      if ((await end).code === null) killed++
      watcher?.close()
      clearTimeout(timer)
      for (const name of names) {
        const text = readFileSync(join(folder, name), "utf8")
        assert.isTrue(text === texts.get(name) || text === results.get(name), `run ${run}: ${name} is torn`)
      }
      const rest = readdirSync(folder).filter((name) => !names.includes(name))
      assert.isTrue(
        rest.every((name) => /^\.(.*\.tmp|lock-.*)$/.test(name)),
        rest.join()
      )
      const backups = `${folder}.backup`
      for (const backup of existsSync(backups) ? readdirSync(backups) : []) {
        if (backup.startsWith(".")) continue
        for (const name of names) {
          assert.isTrue(readFileSync(join(backups, backup, name), "utf8") === texts.get(name), "a backup is whole")
        }
      }
    }
    assert.isAbove(killed, 5)
    // The next one does the work, whatever the killed one left behind.
    await succeed(home, ["apply", input, "--registry", join(home.path, "registry-0")])
    assert.deepEqual(readdirSync(join(home.path, "registry-0")), names)
  })
})
