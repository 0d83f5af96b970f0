import { useEffect, useRef, useState } from "preact/hooks"
import { Empty, Title } from "../parts/small"

/** The endpoints, from the OpenAPI document: to read and to try. */
export const Api = () => {
  const place = useRef<HTMLDivElement>(null)
  const [state, setState] = useState<"loading" | "shown" | "failed">("loading")
  useEffect(() => {
    let gone = false
    let remove = () => {}
    import("../apiViewer").then(
      ({ show }) => {
        if (gone || place.current === null) return
        remove = show(place.current)
        setState("shown")
      },
      () => setState("failed")
    )
    return () => {
      gone = true
      remove()
    }
  }, [])
  return (
    <>
      <Title name="API">
        <span class="push" />
        <a href="./openapi.json">openapi.json</a> <a href="./docs">plain page</a>
      </Title>
      {state === "loading" ? <Empty>Loading the viewer…</Empty> : null}
      {state === "failed" ? (
        <p role="alert" class="error">
          The viewer could not be loaded. The plain page has the endpoints too.
        </p>
      ) : null}
      <div class="api-viewer" ref={place} />
    </>
  )
}
