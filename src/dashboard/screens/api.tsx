import { useEffect, useState } from "preact/hooks"
import { address, call, get } from "../api"
import { Badge, Code, Empty, Title } from "../parts/small"
import { fleet, useStore } from "../store"

interface Operation {
  readonly summary: string
  readonly parameters?: ReadonlyArray<{
    readonly name: string
    readonly in: string
    readonly description: string
    readonly required?: boolean
  }>
  readonly requestBody?: { readonly content: { readonly [type: string]: { readonly schema?: Schema } } }
}
interface Schema {
  readonly type?: string | ReadonlyArray<string>
  readonly description?: string
  readonly properties?: { readonly [name: string]: Schema }
  readonly required?: ReadonlyArray<string>
  readonly enum?: ReadonlyArray<unknown>
  readonly anyOf?: ReadonlyArray<Schema>
  readonly minimum?: number
  readonly maximum?: number
  readonly default?: unknown
}

const typeOf = ({ anyOf, enum: values, maximum, minimum, type }: Schema): string => {
  if (values !== undefined) return values.map((value) => JSON.stringify(value)).join(" | ")
  if (anyOf !== undefined) return [...new Set(anyOf.map(typeOf))].join(" | ")
  const range = minimum === undefined && maximum === undefined ? "" : ` ${minimum ?? ""}…${maximum ?? ""}`
  return `${Array.isArray(type) ? type.join(" | ") : (type ?? "any")}${range}`
}

const maxShown = 20_000

const Try = ({ path }: { readonly path: string }) => {
  const [id, setId] = useState("")
  const [answer, setAnswer] = useState<string>()
  const named = path.includes("{id}")
  const send = async (event: Event) => {
    event.preventDefault()
    try {
      const text = await (await call(path.replace("{id}", encodeURIComponent(id)))).text()
      let shown = text
      try {
        shown = JSON.stringify(JSON.parse(text), null, 2)
      } catch {
        // It is text.
      }
      setAnswer(shown.length > maxShown ? `${shown.slice(0, maxShown)}\n…` : shown)
    } catch (error) {
      setAnswer(error instanceof Error ? error.message : String(error))
    }
  }
  return (
    <>
      <form class="row" onSubmit={(event) => void send(event)}>
        {named ? (
          <input
            required
            aria-label="id"
            placeholder="id"
            value={id}
            onInput={(event) => setId(event.currentTarget.value)}
          />
        ) : null}
        <button type="submit" class="small">
          Try it
        </button>
      </form>
      {answer === undefined ? null : <Code label="Answer" text={answer} />}
    </>
  )
}

const Endpoint = ({
  keys,
  method,
  operation,
  path
}: {
  readonly method: string
  readonly path: string
  readonly operation: Operation
  readonly keys: boolean
}) => {
  const [open, setOpen] = useState(false)
  const schema = operation.requestBody?.content["application/json"]?.schema
  const own = (operation.parameters ?? []).filter(
    ({ name }) => !["X-Request-Id", "traceparent", "tracestate"].includes(name)
  )
  const example = `curl ${method === "GET" ? "" : `-X ${method} `}${address()}${path}${keys ? ' \\\n  -H "Authorization: Bearer $AICORTEX_API_KEY"' : ""}${schema === undefined ? "" : ` \\\n  -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(Object.fromEntries((schema.required ?? []).map((name) => [name, "…"])))}'`}`
  return (
    <li class="card endpoint">
      <button type="button" class="expand" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Badge tone={method === "GET" || method === "HEAD" ? "info" : method === "DELETE" ? "bad" : "good"}>
          {method}
        </Badge>
        <code>{path}</code>
        <span class="dim">{operation.summary}</span>
      </button>
      {open ? (
        <div>
          {own.length === 0 ? null : (
            <dl class="facts wide">
              {own.map(({ description, in: where, name }) => (
                <div key={name}>
                  <dt>
                    <code>{name}</code> <span class="dim">{where}</span>
                  </dt>
                  <dd>{description}</dd>
                </div>
              ))}
            </dl>
          )}
          {schema?.properties === undefined ? null : (
            <>
              <h2>Body</h2>
              <dl class="facts wide">
                {Object.entries(schema.properties).map(([name, field]) => (
                  <div key={name}>
                    <dt>
                      <code>{name}</code>
                      {schema.required?.includes(name) ? " *" : ""}
                    </dt>
                    <dd>
                      <span class="dim">{typeOf(field)}</span>
                      {field.description === undefined ? "" : ` ${field.description}`}
                    </dd>
                  </div>
                ))}
              </dl>
            </>
          )}
          <Code label="curl" text={example} />
          {method === "GET" && path !== "/events" ? <Try path={path} /> : null}
        </div>
      ) : null}
    </li>
  )
}

/** The endpoints, from the OpenAPI document. */
export const Api = () => {
  const [paths, setPaths] = useState<Record<string, Record<string, Operation>>>()
  const [error, setError] = useState("")
  const [filter, setFilter] = useState("")
  const keys = useStore(fleet)?.keys === true
  useEffect(() => {
    get<{ paths: Record<string, Record<string, Operation>> }>("/openapi.json").then(
      ({ paths }) => setPaths(paths),
      (reason) => setError(reason.message)
    )
  }, [])
  const all = Object.entries(paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation }))
  )
  const matching = all.filter(({ operation, path }) =>
    `${path} ${operation.summary}`.toLowerCase().includes(filter.toLowerCase())
  )
  return (
    <>
      <Title name="API">
        <input
          type="search"
          aria-label="Filter endpoints"
          placeholder="Filter"
          value={filter}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
        <span class="push" />
        <a href="./openapi.json">openapi.json</a> <a href="./docs">plain page</a>
      </Title>
      {error === "" ? null : (
        <p role="alert" class="error">
          {error}
        </p>
      )}
      {paths === undefined && error === "" ? <Empty>Reading the endpoints…</Empty> : null}
      <ul class="endpoints">
        {matching.map(({ method, operation, path }) => (
          <Endpoint key={method + path} keys={keys} method={method} path={path} operation={operation} />
        ))}
      </ul>
    </>
  )
}
