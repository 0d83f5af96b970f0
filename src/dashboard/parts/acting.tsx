import { useCallback, useState } from "preact/hooks"
import * as Format from "../format"

/** Does something; `done` says in words that it was done. */
export type Act = (done: string, run: () => Promise<unknown>) => void

/** Actions of a screen, and the place that shows their outcome. */
export const useActions = (after: () => void) => {
  const [said, setSaid] = useState("")
  const [failed, setFailed] = useState("")
  const act: Act = useCallback(
    (done, run) => {
      setFailed("")
      setSaid("")
      run().then(
        () => {
          setSaid(done)
          after()
        },
        (error: Error) => setFailed(error.message)
      )
    },
    [after]
  )
  const told = (
    <>
      <p role="status" class={said === "" ? "hidden" : "banner good-text"}>
        {Format.harmless(said)}
      </p>
      <p role="alert" class={failed === "" ? "hidden" : "error banner"}>
        {Format.harmless(failed)}
      </p>
    </>
  )
  return { act, told }
}
