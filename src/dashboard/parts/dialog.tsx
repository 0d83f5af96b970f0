import type { ComponentChildren } from "preact"
import { useEffect, useRef } from "preact/hooks"

/** Asks for something, above the rest of the page. Escape closes it. */
export const Dialog = ({
  children,
  close,
  name
}: {
  readonly name: string
  readonly close: () => void
  readonly children: ComponentChildren
}) => {
  const element = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const before = document.activeElement
    element.current?.showModal()
    return () => {
      if (before instanceof HTMLElement) before.focus()
    }
  }, [])
  return (
    <dialog ref={element} class="card" aria-label={name} onClose={close}>
      <h2>{name}</h2>
      {children}
    </dialog>
  )
}

/** The end of a form in a dialog: to leave it, or to do what it is for. */
export const DialogButtons = ({ action, close }: { readonly action: string; readonly close: () => void }) => (
  <div class="row end">
    <button type="button" onClick={close}>
      Cancel
    </button>
    <button type="submit" class="primary">
      {action}
    </button>
  </div>
)
