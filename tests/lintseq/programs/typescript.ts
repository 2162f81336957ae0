type Shape = {
  name: string;
  area(): number;
};

enum Color {
  Red,
  Green = "green",
}

interface Painter<T extends Shape> {
  color: Color;
  paint(shape: T): string;
}

class Circle implements Shape {
  name = "circle";
  private factor = 3.14;

  constructor(private radius: number) {}

  area(): number {
    const squared = this.radius * this.radius;
    return squared * this.factor;
  }

  grow(by: number): void {
    this.radius += by;
  }
}

class Brush implements Painter<Circle> {
  color = Color.Red;

  paint(shape: Circle): string {
    let text = "";
    if (shape.area() > 1) {
      text += shape.name;
    }
    return text + this.color;
  }
}

function describe(shape: Shape): string;
function describe(shape: Shape, color: Color): string;
function describe(shape: Shape, color?: Color): string {
  const parts = [
    shape.name,
    String(shape.area()),
  ];
  if (color !== undefined) {
    parts.push(String(color));
  }
  return parts.join(" ");
}

const circle = new Circle(2);
circle.grow(1);
const brush = new Brush();
console.log(describe(circle, Color.Green), brush.paint(circle));
