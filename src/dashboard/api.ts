/** Requests to the gateway that this page comes from. */
import type { Session } from "./types"

let session: Session | undefined

let left: () => void = () => {}

/** `run` is called when the gateway no longer knows the browser: the session or its key has ended. */
export const onSignedOut = (run: () => void): void => {
  left = run
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string
  ) {
    super(message)
  }
}

const messageOf = async (response: Response): Promise<string> => {
  try {
    const body = await response.json()
    return String(body.error?.message ?? body.error ?? body.message ?? response.statusText)
  } catch {
    return `The gateway answered with status ${response.status}.`
  }
}

/** The page is shown under any prefix of a proxy. */
export const href = (path: string): string => path.replace(/^\//, "./")

/** What a request that changes something has in addition to the cookie. */
export const credentials = (): Readonly<Record<string, string>> =>
  session?.csrf ? { "x-aicortex-csrf": session.csrf } : {}

export const call = async (path: string, init: RequestInit = {}): Promise<Response> => {
  const headers = new Headers(init.headers)
  for (const [name, value] of Object.entries(credentials())) headers.set(name, value)
  if (init.body !== undefined) headers.set("content-type", "application/json")
  let response: Response
  try {
    response = await fetch(href(path), { ...init, headers, credentials: "same-origin" })
  } catch (error) {
    if (init.signal?.aborted) throw error
    throw new ApiError(0, "The gateway cannot be reached.")
  }
  if (response.status === 401 && path !== "/login") left()
  if (!response.ok) throw new ApiError(response.status, await messageOf(response))
  return response
}

export const get = async <A>(path: string): Promise<A> => (await call(path)).json()

export const post = (path: string, body: unknown, init: RequestInit = {}): Promise<Response> =>
  call(path, { method: "POST", body: JSON.stringify(body), ...init })

export const readSession = async (): Promise<Session> => {
  session = await get<Session>("/session")
  return session
}

export const signIn = async (key: string): Promise<Session> => {
  session = await (await post("/login", { key })).json()
  return session as Session
}

export const signOut = async (): Promise<void> => {
  await call("/logout", { method: "POST" })
  session = undefined
}

/** Calls `line` with each line of a body. */
export const lines = async (response: Response, line: (text: string) => void): Promise<void> => {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ""
  while (reader !== undefined) {
    const { done, value } = await reader.read()
    if (done) break
    const all = (rest + value).split("\n")
    rest = all.pop() ?? ""
    for (const one of all) line(one)
  }
  if (rest !== "") line(rest)
}

export const eventsAt = (types: string): EventSource => new EventSource(href(`/events?types=${types}`))

/** The address of this gateway, as programs are given it. */
export const address = (): string => new URL(".", location.href).href.replace(/\/$/, "")
