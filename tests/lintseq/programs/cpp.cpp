#include <map>
#include <string>
#include <vector>

using namespace std;

namespace shapes {

template <typename T>
T largest(const vector<T>& values) {
  T best = values.at(0);
  for (const auto& value : values) {
    if (best < value) {
      best = value;
    }
  }
  return best;
}

class Shape {
 public:
  explicit Shape(string name) : name_(name) {}
  virtual ~Shape() {}

  virtual double area() const = 0;

  const string& name() const {
    return name_;
  }

 private:
  string name_;
};

class Square : public Shape {
 public:
  Square(double side) : Shape("square"), side_(side) {}

  double area() const override;

 private:
  double side_;
};

double Square::area() const {
  return side_ * side_;
}

}  // namespace shapes

struct Point {
  int x;
  int y;
};

bool operator<(const Point& a, const Point& b) {
  return a.x < b.x;
}

int main() {
  shapes::Square square(2);
  map<string, double> areas;
  areas[square.name()] = square.area();
  vector<Point> points = {{1, 2}, {3, 4}};
  auto sum = [&](int start) {
    int total = start;
    for (const Point& point : points) {
      total += point.x + point.y;
    }
    return total;
  };
  Point best = shapes::largest(points);
  return sum(best.x) + static_cast<int>(areas.size());
}
