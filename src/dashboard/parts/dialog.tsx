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
