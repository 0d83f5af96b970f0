import { useEffect, useState } from "preact/hooks"
import { onSignedOut, readSession, signOut } from "./api"
import { Icon, type IconName } from "./parts/icon"
import { Api } from "./screens/api"
import { Benchmarks } from "./screens/benchmarks"
import { Connect } from "./screens/connect"
import { FleetScreen } from "./screens/fleet"
import { Keys } from "./screens/keys"
import { Live } from "./screens/live"
import { Login } from "./screens/login"
import { ModelsScreen } from "./screens/models"
import { Playground } from "./screens/playground"
import { Settings } from "./screens/settings"
import { UsageScreen } from "./screens/usage"
import { connected, session as current, fleet, start, useStore } from "./store"
import type { Session } from "./types"

const screens: ReadonlyArray<{
  readonly path: string
  readonly name: string
  readonly icon: IconName
  readonly Screen: () => preact.JSX.Element
  /** Only for administrators. */
  readonly admin?: true
}> = [
  { path: "fleet", name: "Fleet", icon: "fleet", Screen: FleetScreen },
  { path: "live", name: "Live", icon: "live", Screen: Live },
  { path: "playground", name: "Playground", icon: "chat", Screen: Playground },
  { path: "models", name: "Models", icon: "chip", Screen: ModelsScreen },
  { path: "usage", name: "Usage", icon: "bars", Screen: UsageScreen },
  { path: "keys", name: "Keys", icon: "key", Screen: Keys, admin: true },
  { path: "benchmarks", name: "Benchmarks", icon: "gauge", Screen: Benchmarks },
  { path: "connect", name: "Connect", icon: "plug", Screen: Connect },
  { path: "settings", name: "Settings", icon: "settings", Screen: Settings },
  { path: "api", name: "API", icon: "code", Screen: Api }
]

const pathOf = (): string => location.hash.replace(/^#\/?/, "").split("?")[0] ?? ""

export const App = () => {
  const session = useStore(current)
  const [error, setError] = useState("")
  const [path, setPath] = useState(pathOf())
  const open = session !== undefined && (!session.keys || session.signed_in)

  useEffect(() => {
    const read = () => readSession().then((known) => current.set(known))
    read().catch((reason) => setError(reason.message))
    onSignedOut(() => void read().catch(() => {}))
    const changed = () => setPath(pathOf())
    addEventListener("hashchange", changed)
    return () => removeEventListener("hashchange", changed)
  }, [])
  useEffect(() => (open ? start() : undefined), [open])
  const allowed = screens.filter(({ admin }) => admin !== true || session?.role === "admin")
  const screen = allowed.find((one) => one.path === path) ?? allowed[0]
  useEffect(() => {
    document.title = screen === undefined ? "aicortex" : `${screen.name} – aicortex`
  }, [screen])

  if (error !== "")
    return (
      <main class="alone">
        <p role="alert">{error}</p>
      </main>
    )
  if (session === undefined || screen === undefined)
    return (
      <main class="alone">
        <p>Loading…</p>
      </main>
    )
  if (!open) return <Login done={(known) => current.set(known)} />
  const leave = () => void signOut().then(() => location.reload())
  return (
    <div class="frame">
      <a
        class="skip"
        href="#content"
        onClick={(event) => {
          event.preventDefault()
          document.getElementById("content")?.focus()
        }}
      >
        Skip to the content
      </a>
      <header class="side">
        <div class="brand">
          <Icon name="brand" />
          <span>aicortex</span>
        </div>
        <nav aria-label="Screens">
          {allowed.map(({ icon, name, path }) => (
            <a key={path} href={`#/${path}`} aria-current={path === screen.path ? "page" : undefined}>
              <Icon name={icon} />
              <span>{name}</span>
            </a>
          ))}
        </nav>
        <Status session={session} leave={leave} />
      </header>
      <main id="content" tabIndex={-1}>
        <screen.Screen key={screen.path} />
      </main>
    </div>
  )
}

const Status = ({ leave, session }: { readonly session: Session; readonly leave: () => void }) => {
  const isConnected = useStore(connected)
  const known = useStore(fleet)
  return (
    <div class="status">
      <div class="line" role="status">
        <span class={`dot ${isConnected ? "good" : "bad"}`} aria-hidden="true" />
        <span class="word">{isConnected ? "Live" : "Not connected"}</span>
        {known === undefined ? "" : <span class="dim"> v{known.version}</span>}
      </div>
      {session.key === null ? null : (
        <button type="button" class="quiet" onClick={leave} aria-label={`Sign out ${session.key}`}>
          Sign out <span class="dim">{session.key}</span>
        </button>
      )}
    </div>
  )
}
