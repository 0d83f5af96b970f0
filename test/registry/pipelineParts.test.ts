import * as Either from "effect/Either"
import { assert, describe, it } from "vitest"
import * as Inventory from "../../src/registry/pipeline/inventory.js"
import * as OtherFormats from "../../src/registry/pipeline/otherFormats.js"
import * as Plan from "../../src/registry/pipeline/plan.js"
import { familyOf } from "../../src/registry/pipeline/record.js"
import * as Resolve from "../../src/registry/pipeline/resolve.js"

const url = "http://10.0.0.1:11434"
const options = { now: "2026-01-01T00:00:00.000Z", newId: (key: string) => `id of ${key}`, keeps: () => false }

const inventoryOf = (value: unknown, family?: string) =>
  Inventory.read([{ name: "a.json", text: JSON.stringify(value), ...(family === undefined ? {} : { family }) }])

const record = (model: string, more: object = {}) => ({ model_name: model, ip_port: url, ...more })

const listOf = (...models: ReadonlyArray<unknown>) => [{ source_url: `${url}/api/tags`, models }]

const planOf = (given: unknown, files: Record<string, unknown>, force = false) =>
  Plan.plan(
    given,
    Object.entries(files).map(([name, value]) => ({
      name,
      text: typeof value === "string" ? value : JSON.stringify(value)
    })),
    { ...options, force }
  )

const refusal = (plan: Either.Either<Plan.Plan, Plan.Refused>) => Either.getOrThrow(Either.flip(plan)).reason

describe("resolved records", () => {
  it("only the measured model has a measurement, and all models of a server have its location", () => {
    const place = { ip_city_name_en: "Berlin", ip_isp: "Net" }
    const existing = inventoryOf([record("a:1b", { perf_tokens_per_second: "94.3", ...place }), record("b:1b")])
    const { records } = Resolve.resolve(listOf({ name: "a:1b" }, { name: "b:1b" }, { name: "c:1b" }), existing, options)
    assert.deepEqual(
      records.map((one) => [one["model_name"], one["perf_tokens_per_second"], one["ip_city_name_en"], one["ip_isp"]]),
      [
        ["a:1b", "94.3", "Berlin", "Net"],
        ["b:1b", null, "Berlin", "Net"],
        ["c:1b", null, "Berlin", "Net"]
      ]
    )
  })

  it("identifier and date are stable between runs; new identifiers depend on server and model only", () => {
    const existing = inventoryOf([record("a:1b", { id: "7", date_added: "2024" })])
    const first = Resolve.resolve(listOf({ name: "a:1b" }, { name: "b:1b" }), existing, options).records
    const later = { ...options, now: "2027-01-01T00:00:00.000Z" }
    const second = Resolve.resolve(listOf({ name: "b:1b" }, { name: "a:1b" }), inventoryOf(first), later).records
    assert.sameDeepMembers([...second], [...first])
    assert.deepInclude(first[0], { id: "7", date_added: "2024" })
    assert.deepInclude(first[1], { id: `id of ${url}\nb:1b`, date_added: options.now })
  })

  const digests: ReadonlyArray<readonly [string | undefined, string | undefined, string | null]> = [
    ["x", "x", "9"],
    ["x", undefined, "9"],
    [undefined, "x", "9"],
    ["x", "y", null]
  ]
  it.each(digests)("a measurement of weights %s holds for weights %s: %s", (before, now, speed) => {
    const existing = inventoryOf([record("a:1b", { digest: before, perf_tokens_per_second: "9" })])
    const [found] = Resolve.resolve(listOf({ name: "a:1b", digest: now }), existing, options).records
    assert.strictEqual(found?.["perf_tokens_per_second"], speed)
  })

  it("a server's claims about itself are ignored: identifiers, speeds, locations, files", () => {
    const hostile = {
      name: "a:1b",
      id: "mine",
      ip_port: "http://10.9.9.9",
      perf_tokens_per_second: "99999",
      ip_city_name_en: "Atlantis",
      date_added: "1999",
      details: { family: "../../x", ip_port: "http://10.9.9.9" }
    }
    const { records } = Resolve.resolve(listOf(hostile), inventoryOf([]), options)
    assert.lengthOf(records, 1)
    assert.deepInclude(records[0], {
      id: `id of ${url}\na:1b`,
      ip_port: url,
      family: "others",
      perf_tokens_per_second: null,
      ip_city_name_en: null,
      date_added: options.now
    })
  })

  it("null, wrong types and duplicates are skipped with their reason, and the rest is used", () => {
    const models = [null, 7, "x", [], { name: null }, { name: "" }, { name: "a".repeat(300) }, { name: "a:1b" }]
    const fetched = [
      ...listOf(...models, { model: "A:1b", details: null }, { name: "b:1b", details: null, size: null }),
      null,
      { source_url: 7, models: [] },
      { source_url: "http://10.0.0.2", models: null },
      { source_url: "ftp://10.0.0.2", models: [] }
    ]
    const { records, rejected } = Resolve.resolve(fetched, inventoryOf([]), options)
    assert.deepEqual(
      records.map((one) => one["model_name"]),
      ["a:1b", "b:1b"]
    )
    assert.deepEqual(
      rejected.map(({ reason }) => reason.replace(/ \d+ char.*/, "")),
      [
        ...Array(4).fill("a model is not an object"),
        ...Array(2).fill("a model names no model"),
        "a model has a name of",
        "is listed twice",
        "its address is not a text",
        "its address is not a text",
        "its models are not a list",
        "'ftp://10.0.0.2' must begin with http:// or https://"
      ]
    )
  })

  it("records of missing servers are removed, or kept on request; info without a server is kept", () => {
    const existing = inventoryOf([
      record("a:1b"),
      { model_name: "b:1b", ip_port: "http://10.0.0.2" },
      { model_name: "c:1b" }
    ])
    const names = (keepMissing: boolean) =>
      Resolve.resolve(listOf({ name: "n:1b" }), existing, { ...options, keeps: () => keepMissing }).records.map(
        (one) => one["model_name"]
      )
    assert.deepEqual(names(false), ["n:1b", "c:1b"])
    assert.deepEqual(names(true), ["n:1b", "b:1b", "c:1b"])
  })
})

describe("changed files", () => {
  it.each(["../../x", "/etc/passwd", "..", "CON:", "a/b", "phi", "x\u0000"])(
    "family %j is not written as a file",
    (family) => {
      const { write } = Either.getOrThrow(planOf([record("nemo:1b", { family }), record("../y:1b", { family })], {}))
      assert.deepEqual(
        write.map(({ name }) => name),
        ["others.json"]
      )
    }
  )

  const families: ReadonlyArray<readonly [string, object, string]> = [
    ["the family that is named", { family: "qwen" }, "qwen"],
    ["its beginning", { family: "gemma3" }, "gemma"],
    ["a file that is there", { family: "phi" }, "phi"],
    ["the name", { model_name: "mixtral:8x7b" }, "mistral"],
    ["nothing", {}, "others"]
  ]
  it.each(families)("the family comes from %s", (_, more, family) => {
    assert.strictEqual(familyOf({ model_name: "x:1b", ...more }, new Set(["phi"])), family)
  })

  const shapes: ReadonlyArray<readonly [string, (rows: ReadonlyArray<object>) => unknown]> = [
    ["a bare list", (rows) => rows],
    ["models", (models) => ({ models })],
    ["props.pageProps.models", (models) => ({ props: { pageProps: { models } } })]
  ]
  it.each(shapes)("%s is read like any other format, and only differences are reported", (_, shape) => {
    const rows = [record("llama3:8b", { id: "1", date_added: "x", size: 7 }), record("llama3:70b", { id: "2" })]
    const next = [record("llama3:8b", { size: "8", id: "1", date_added: "x" }), record("qwen3:4b")]
    const plan = Either.getOrThrow(planOf(next, { "llama.json": shape(rows) }))
    assert.deepEqual(
      plan.changes.map(({ change, fields, model }) => [change, model, fields?.filter((field) => field !== "family")]),
      [
        ["changed", "llama3:8b", ["size"]],
        ["added", "qwen3:4b", undefined],
        ["removed", "llama3:70b", undefined]
      ]
    )
    assert.deepInclude(plan, { before: 2, after: 2, remove: [] })
    // The same again changes nothing.
    const files = Object.fromEntries(plan.write.map(({ name, text }) => [name, text]))
    const again = Either.getOrThrow(planOf(next, files))
    assert.deepInclude(again, { write: [], remove: [], changes: [] })
  })

  it("the file of a family without records is removed, and others remain", () => {
    const files = {
      "llama.json": [record("llama3:8b")],
      "servers.json": { servers: [] },
      "urls.json": [url],
      "odd.json": {}
    }
    const plan = Either.getOrThrow(planOf([record("qwen3:4b")], files))
    assert.deepEqual(plan.remove, ["llama.json"])
  })

  it("refuses changes that lose more than half, all, or an unreadable file, without force", () => {
    const files = { "llama.json": Array.from({ length: 5 }, (_, i) => record(`llama3:${i}b`)) }
    const rows = files["llama.json"]
    assert.include(refusal(planOf([], files)), "no record would be left")
    assert.include(refusal(planOf(rows.slice(0, 2), files)), "only 2 of 5 records would be left")
    assert.include(refusal(planOf(rows, { ...files, "qwen.json": "{" })), "qwen.json is not JSON")
    for (const wrong of [null, 7, {}, { models: {} }]) assert.include(refusal(planOf(wrong, files, true)), "not a list")
    assert.isTrue(Either.isRight(planOf(rows.slice(0, 3), files)))
    assert.isTrue(Either.isRight(planOf([], files, true)))
  })
})

describe("files in other formats", () => {
  it("alternative field names are exported under those of the 37", () => {
    const row = record("llama3:8b", { ip_city: "Berlin", ip_country_name: "Germany", ip_country_iso: "DE", odd: 1 })
    const [file] = OtherFormats.toFamilies(inventoryOf([row]))
    const [exported] = JSON.parse(file?.text ?? "").models
    assert.lengthOf(Object.keys(exported), 37)
    const place = { ip_city_name_en: "Berlin", ip_country_name_en: "Germany", ip_country_iso_code: "DE" }
    assert.deepInclude(exported, place)
  })

  it("servers, URLs and their model lists are read into the same servers", () => {
    const text =
      "# mine\n10.0.0.1:11434\n\nhttp://10.0.0.1:11434/api/tags\nhttp://10.0.0.2:8000/v1/models\nnot an address\n"
    const { rejected, servers } = Inventory.read([{ name: "list.txt", text }])
    assert.deepEqual([...servers.keys()], [url, "http://10.0.0.2:8000/v1"])
    assert.lengthOf(rejected, 1)
  })

  it("a list of servers survives reading and writing; passwords are not written", () => {
    const listed = {
      servers: [
        {
          url: "http://user:secret@10.0.0.1:11434",
          protocol: "ollama",
          organization: "Us",
          location: { city: "Berlin", country: "DE", latitude: 52.5 },
          models: [
            "a:1b",
            { model_name: "b:1b", size: 12, performance: { tokens_per_second: 9.5, last_tested: "2026" } }
          ]
        }
      ]
    }
    const once = OtherFormats.toServers(inventoryOf(listed))
    assert.deepEqual(OtherFormats.toServers(inventoryOf(once)), once)
    const [server] = once.servers
    assert.deepInclude(server, { url, organization: "Us", location: { city: "Berlin", country: "DE", latitude: 52.5 } })
    assert.deepInclude(server?.models?.[1], { size: 12, performance: { tokens_per_second: 9.5, last_tested: "2026" } })
    assert.notInclude(JSON.stringify([once, OtherFormats.toFamilies(inventoryOf(listed))]), "secret")
  })
})
