import { useState } from "preact/hooks"
import { signIn } from "../api"
import { Icon } from "../parts/icon"
import type { Session } from "../types"

/** A gateway with keys asks for one. */
export const Login = ({ done }: { readonly done: (session: Session) => void }) => {
  const [key, setKey] = useState("")
  const [error, setError] = useState("")
  const submit = async (event: Event) => {
    event.preventDefault()
    try {
      done(await signIn(key))
    } catch (reason) {
      setError(reason instanceof Error ? reason.message : String(reason))
    }
  }
  return (
    <main class="alone">
      <form class="card login" onSubmit={(event) => void submit(event)}>
        <div class="brand">
          <Icon name="brand" />
          <h1>aicortex</h1>
        </div>
        <label>
          API key
          <input
            type="password"
            autocomplete="current-password"
            required
            value={key}
            onInput={(event) => setKey(event.currentTarget.value)}
          />
        </label>
        <p class="dim">
          This gateway is protected. The key is exchanged for a session cookie, and is not kept by this page.
        </p>
        <p role="alert" class="error">
          {error}
        </p>
        <button type="submit" class="primary">
          Sign in
        </button>
      </form>
    </main>
  )
}
