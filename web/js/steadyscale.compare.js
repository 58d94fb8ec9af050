// A slider between before and after on the node Compare Frames, where the frontend allows widgets of HTML.
//
// Nothing depends on it: where a part of the frontend is missing or has changed, the node displays its image as any
// other does. The node sends two images of one size, `steadyscale_before` and `steadyscale_after`, where its layout is a
// split; the slider then stands in place of the image.

const NODE = "SteadyScale_CompareFrames";
const WIDGET = "steadyscale_slider";
const MIN_HEIGHT = 240; // of the before/after slider, in pixels
const PREVIEW_WIDGETS = ["$$canvas-image-preview", "$$comfy_animation_preview", "video-preview"]; // of the frontend

// Where the line stands, in per cent of the image's width, for a pointer at x.
export function place(x, left, width) {
  if (!(width > 0)) return 50;
  return Math.min(100, Math.max(0, (100 * (x - left)) / width));
}

// The address of an image that a node output, or null for what is none.
export function address(item, url = (path) => path) {
  if (!item || typeof item.filename !== "string") return null;
  const { filename, subfolder = "", type = "temp" } = item;
  return url(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

function slider() {
  const box = document.createElement("div");
  box.className = "steadyscale-compare";
  box.style.cssText = "display:flex;flex-direction:column;width:100%;height:100%;overflow:hidden";
  box.style.minHeight = `${MIN_HEIGHT}px`; // Nodes 2.0 gives an element without one no height
  const frame = document.createElement("div");
  frame.style.cssText = "position:relative;flex:1 1 0;min-height:0;cursor:ew-resize;container-type:inline-size";
  const [before, after] = ["left", "right"].map(() => {
    const image = document.createElement("img");
    image.draggable = false;
    image.style.cssText = "position:absolute;inset:0;width:100%;height:100%;object-fit:contain;user-select:none";
    frame.append(image);
    return image;
  });
  const captions = ["left", "right"].map((side) => {
    const caption = document.createElement("span");
    caption.style.cssText =
      `position:absolute;top:0;${side}:0;padding:0.25em 0.5em;background:#000b;color:#fff;pointer-events:none;` +
      "font:600 clamp(16px, 5cqw, 40px) sans-serif"; // readable where the canvas is zoomed out
    return caption;
  });
  const line = document.createElement("div");
  line.style.cssText = "position:absolute;top:0;bottom:0;width:2px;margin-left:-1px;background:#fff;pointer-events:none";
  const range = document.createElement("input");
  Object.assign(range, { type: "range", min: 0, max: 100, step: 0.1, value: 50 });
  range.style.cssText = "flex:0 0 auto;width:100%;margin:2px 0 0";
  frame.append(line, ...captions);
  box.append(frame, range);

  // The part of the frame that the image covers: it keeps its shape, so there may be bars beside it.
  const covered = () => {
    const { left, width, height } = frame.getBoundingClientRect();
    const shape = before.naturalWidth / before.naturalHeight || width / height;
    const wide = Math.min(width, height * shape);
    return { left: left + (width - wide) / 2, wide, whole: { left, width } };
  };
  const move = (percent) => {
    const { left, wide, whole } = covered();
    const at = whole.width > 0 ? (100 * (left - whole.left + (wide * percent) / 100)) / whole.width : percent;
    after.style.clipPath = `inset(0 0 0 ${at}%)`;
    line.style.left = `${at}%`;
    range.value = percent;
  };
  range.addEventListener("input", () => move(Number(range.value)));
  frame.addEventListener("pointermove", (event) => {
    const { left, wide } = covered();
    move(place(event.clientX, left, wide));
  });
  before.addEventListener("load", () => move(Number(range.value)));
  const show = (addresses, labels, percent) => {
    [before.src, after.src] = addresses;
    [before.alt, after.alt] = labels;
    range.setAttribute("aria-label", labels.join(" / "));
    captions.forEach((caption, side) => {
      caption.textContent = labels[side];
      caption.hidden = !labels[side];
    });
    move(percent);
  };
  return { box, show };
}

// The slider of a node, made when it is first needed; null where the frontend has no such widgets.
function sliderOf(node) {
  if (node.steadyscaleSlider) return node.steadyscaleSlider;
  if (typeof node.addDOMWidget !== "function") return null;
  const made = slider();
  const widget = node.addDOMWidget(WIDGET, "steadyscale_compare", made.box, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => MIN_HEIGHT,
    getValue: () => "",
    setValue: () => {},
  });
  if (!widget) return null;
  widget.serialize = false; // widgets are stored by position, and this one is no setting
  node.steadyscaleSlider = made;
  const size = node.computeSize?.();
  if (size && node.size) node.setSize?.([Math.max(node.size[0], 320), Math.max(node.size[1], size[1])]);
  return made;
}

// The text of a setting of the node; an input that is linked has none here.
function valueOf(node, name) {
  return String(node.widgets?.find((widget) => widget.name === name)?.value ?? "");
}

function removeWidgets(node, names) {
  for (const widget of node.widgets?.filter(({ name }) => names.includes(name)) ?? []) {
    if (typeof node.removeWidget === "function") node.removeWidget(widget);
    else node.widgets.splice(node.widgets.indexOf(widget), 1)[0].onRemove?.();
  }
}

function showSlider(node, addresses) {
  const made = sliderOf(node);
  if (!made) return;
  const labels = ["label_before", "label_after"].map((name) => valueOf(node, name));
  made.show(addresses, labels, 100 * Number(valueOf(node, "split") || 0.5));
  node.hideOutputImages = true; // Nodes 2.0; for the classic canvas see onDrawBackground below
}

function removeSlider(node) {
  removeWidgets(node, [WIDGET]);
  node.steadyscaleSlider = null;
  node.hideOutputImages = false;
}

// Remove the image or the video of the run before, which the frontend would leave beside what follows.
function removePreview(node) {
  removeWidgets(node, PREVIEW_WIDGETS);
  node.imgs = node.images = node.previewMediaType = node.videoContainer = undefined;
}

async function start() {
  const [{ app }, { api }] = await Promise.all([
    import("../../../scripts/app.js"),
    import("../../../scripts/api.js"),
  ]);
  const url = (path) => (typeof api?.apiURL === "function" ? api.apiURL(path) : path);
  app.registerExtension({
    name: "steadyscale.compare",
    beforeRegisterNodeDef(nodeType, nodeData) {
      if (nodeData?.name !== NODE) return;
      const { onExecuted: executed, onDrawBackground: draw } = nodeType.prototype;
      nodeType.prototype.onDrawBackground = function (...args) {
        if (!this.steadyscaleSlider) return draw?.apply(this, args); // which adds the image of the output to the node
      };
      nodeType.prototype.onExecuted = function (output, ...rest) {
        try {
          const addresses = [output?.steadyscale_before?.[0], output?.steadyscale_after?.[0]].map((item) =>
            address(item, url),
          );
          removePreview(this);
          if (addresses.every(Boolean)) showSlider(this, addresses);
          else removeSlider(this); // the frontend displays the image, or plays the video
          this.setDirtyCanvas?.(true, true);
        } catch (error) {
          console.debug("steadyscale.compare: no slider on this frontend", error);
        }
        return executed?.call(this, output, ...rest);
      };
    },
  });
}

if (typeof document !== "undefined") {
  start().catch((error) => console.debug("steadyscale.compare: not started", error));
}
